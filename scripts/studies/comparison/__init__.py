"""The parts of `scripts/studies/reproduce.py`: the methods that pretext is compared with, on public research data.

Nothing in here belongs to the product. It reads datasets that were published as if they were private, prints figures
that were measured on them without noise, and simulates federated training with noise that no ledger draws. No model,
figure or file that comes out of it is covered by any guarantee.
"""
