"""Pictures of policies, costs, masks, searches and runs, as SVG without dependencies."""
