"""How models of neighbours become one: weights, rules, layout of parameters."""
