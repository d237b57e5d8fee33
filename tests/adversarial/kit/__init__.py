"""The proof on this machine: origins with habits, a facilitator with a ledger, and servers in front of them."""
