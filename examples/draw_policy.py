"""What a policy looks like and costs, before anything is trained.

python examples/draw_policy.py fig2b g-4 -o policies.svg
"""

import argparse
from pathlib import Path

from lets.metrics import policy_report
from lets.policy import Policy
from lets.report.architecture import architecture_svg
from lets.shape import EncoderShape


def main(specs, encoder="bert-base", seq_len=128, density=0.005, output="policies.svg"):
    """Write the picture; returns what each task adds, in % of the encoder."""
    shape = EncoderShape.from_name(encoder)
    policies = {spec: Policy.from_spec(spec, shape.num_layers, encoder) for spec in specs}
    report = policy_report(shape, list(policies.values()), seq_len, density)
    added = {
        spec: 100 * task.total.flops / report.encoder_flops
        for spec, task in zip(policies, report.tasks)
    }
    notes = {spec: f"{percent:.1f}% new operations" for spec, percent in added.items()}
    Path(output).write_text(architecture_svg(policies, encoder, notes), encoding="utf-8")
    return added


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policies", nargs="+", help="fig2b, g-<groups> or a JSON file")
    parser.add_argument("-o", "--output", default="policies.svg")
    args = parser.parse_args()
    for spec, percent in main(args.policies, output=args.output).items():
        print(f"{spec}: {percent:.1f}% of a dense model")
