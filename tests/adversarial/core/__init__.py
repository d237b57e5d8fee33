"""The adversarial suite's core: what a try is, how servers are spoken to, how results are told."""
