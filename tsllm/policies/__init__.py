"""Policies that are trained on a decision problem (`tsllm.decisions`) and decide."""
