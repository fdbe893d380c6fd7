"""Private text: one door in, `private_data`; only `Bounded` sums come out, by `voting` and `federation`."""
