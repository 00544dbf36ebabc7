"""Who lives in a virtual network: full nodes, churn, adversaries, swarms, computed millions."""
