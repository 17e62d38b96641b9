// Runs the kernels' tests under several schedules. usage: emulated [seeds]
#include <cstdio>
#include <cstdlib>

#include "support.h"

namespace lets::test {

void test_cls_attention();
void test_cls_tail();
void test_delta_linear();
void test_epilogues();

}  // namespace lets::test

int main(int argc, char** argv) {
  const int seeds = argc > 1 ? atoi(argv[1]) : 1;
  try {
    for (int seed = 1; seed <= seeds; ++seed) {
      emu::set_seed(seed);
      lets::test::reset_random();
      lets::test::test_delta_linear();
      lets::test::test_cls_tail();
      lets::test::test_cls_attention();
      lets::test::test_epilogues();
    }
  } catch (const emu::Error& error) {
    printf("FAIL %s\n", error.what());
    return 1;
  }
  return lets::test::failures() != 0;
}
