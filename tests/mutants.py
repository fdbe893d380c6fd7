"""Programs that break their promise, each by one change of the source. A test or an attack must notice every one.

`scripts/mutants` applies each change to a copy of the program and runs the tests that are named for it; CI fails if one
of them passes. To add a mutant, add an entry to `MUTANTS`: a name, its kind, the file, the text in it and what takes
its place, the effect in one line, and the tests. Where the program changes so that a text is not found any more, change
the mutant too; it still says what must never be true.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """A change that takes the guarantee away.

    Attributes:
        name: in the table, and for `scripts/mutants NAME`.
        kind: what it breaks.
        file: in the repository.
        old, new: the text in it, which must stand there once, and what takes its place.
        effect: what it means for a client.
        killers: tests by their pytest ids, files included; each of them must fail.
    """

    name: str
    kind: str
    file: str
    old: str
    new: str
    effect: str
    killers: tuple[str, ...]

    def write(self, root: Path) -> None:
        """Change the file in a copy of the repository. Raises ValueError if the text does not stand there once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds the text to replace {text.count(self.old)} times, not once")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


NOISE = "tests/privacy/test_mechanisms.py"
JOINT = "tests/privacy/test_joint_noise.py::test_noise__all_pairs_of_one_ledger__are_independent"
BOUNDING = "tests/privacy/test_bounding.py"
MOMENTS = "tests/privacy/test_moments.py"
ACCOUNTING = "tests/privacy/test_accounting.py"
ACCOUNT = "tests/privacy/test_account.py"
LEDGER = "tests/privacy/test_ledger.py"
VOTING = "tests/clients/test_voting.py"
SAME_OUTPUT = "tests/jobs/test_noninterference.py::test_what_leaves__releases_held_fixed__is_equal_for_all_private_sets"
_NEIGHBORS = (
    "tests/jobs/test_neighbors.py::test_federation__one_client_less_or_another__moves_the_sum_by_its_bound_at_most"
)
NEIGHBORS, NEIGHBORS_BY_LABEL, NEIGHBORS_OF_FRED, NEIGHBORS_OF_PROFILE = (
    f"{_NEIGHBORS}[{case}]"
    for case in ("ask_votes-no label", "ask_votes-labels", "ask_moments-no label", "ask_profile-labels")
)
SUM_OF_PROFILES = (
    "tests/jobs/test_neighbors.py::test_federation__of_all_clients__is_exactly_the_sum_of_each_alone[ask_profile]"
)
RAW_ROWS = "tests/audit/test_raw_rows.py::test_neighbors_from_raw_rows_on_stay_under_the_claim[Relation.ADD_REMOVE-{}]"
PREDICTED = "tests/audit/test_release_path.py::test_noise_is_not_predicted_from_other_noise"
STATEMENT = "tests/statement/test_statement.py"
AUDIT = "tests/audit/test_release_path.py::test_the_program_stays_under_its_claim"

_DRAWN = "return np.asarray(measurement(bounded.value.tolist()), dtype=np.int64)"
_ZEROS = "np.asarray(measurement([0] * bounded.dimension), dtype=np.int64)"

MUTANTS: list[Mutant] = [
    # How much noise there is
    Mutant(
        "half-the-noise",
        "noise scale",
        "privacy/mechanisms.py",
        'dp.l2_distance(T="f64"), self.sigma)',
        'dp.l2_distance(T="f64"), self.sigma / 2)',
        "twice the epsilon that is stated",
        (f"{NOISE}::test_variance", AUDIT),
    ),
    Mutant(
        "first-coordinate-without-noise",
        "noise scale",
        "privacy/mechanisms.py",
        _DRAWN,
        "noisy = np.asarray(measurement(bounded.value.tolist()), dtype=np.int64)\n"
        "        noisy[:1] = bounded.value[:1]\n        return noisy",
        "one candidate's votes are released as they are",
        (JOINT,),
    ),
    Mutant(
        "noise-seeded",
        "noise scale",
        "privacy/mechanisms.py",
        _DRAWN,
        "noise = np.random.default_rng(0).normal(0, self.sigma, bounded.dimension)\n"
        "        return bounded.value + np.rint(noise).astype(np.int64)",
        "everybody can compute the noise and take it off",
        (
            f"{NOISE}::test_two_draws_differ",
            JOINT,
        ),
    ),
    Mutant(
        "noise-seeded-by-the-process",
        "noise scale",
        "privacy/mechanisms.py",
        _DRAWN,
        'rng = globals().setdefault("_RNG", np.random.default_rng(0))\n'
        "        return bounded.value + np.rint(rng.normal(0, self.sigma, bounded.dimension)).astype(np.int64)",
        "a copy of the process has the same noise",
        (f"{NOISE}::test_forked_processes_draw_different_noise", AUDIT),
    ),
    # The same noise more than once
    Mutant(
        "noise-tiled",
        "noise reuse",
        "privacy/mechanisms.py",
        _DRAWN,
        "noise = np.asarray(measurement([0] * ((bounded.dimension + 1) // 2)), dtype=np.int64)\n"
        "        return bounded.value + np.resize(noise, bounded.dimension)",
        "the difference of two candidates' votes has no noise",
        (JOINT, PREDICTED),
    ),
    Mutant(
        "noise-antithetic",
        "noise reuse",
        "privacy/mechanisms.py",
        _DRAWN,
        "noise = np.asarray(measurement([0] * ((bounded.dimension + 1) // 2)), dtype=np.int64)\n"
        "        return bounded.value + np.append(noise, -noise)[: bounded.dimension]",
        "the sum of two candidates' votes has no noise",
        (JOINT, PREDICTED),
    ),
    Mutant(
        "noise-reused-between-releases",
        "noise reuse",
        "privacy/mechanisms.py",
        _DRAWN,
        f'noises = globals().setdefault("_NOISES", {{}})\n'
        f"        return bounded.value + noises.setdefault(bounded.dimension, {_ZEROS})",
        "the difference of two rounds has no noise",
        (JOINT, PREDICTED),
    ),
    Mutant(
        "noise-mostly-that-of-the-round-before",
        "noise reuse",
        "privacy/mechanisms.py",
        _DRAWN,
        f'noises, fresh = globals().setdefault("_NOISES", {{}}), {_ZEROS}\n'
        "        noise = noises[bounded.dimension] = np.rint(\n"
        "            0.95 * noises.get(bounded.dimension, fresh) + 0.31 * fresh\n"
        "        ).astype(np.int64)\n"
        "        return bounded.value + noise",
        "the difference of two rounds has a third of the noise",
        (JOINT, PREDICTED),
    ),
    # The bound on a client
    Mutant(
        "exact-check-left-out",
        "bounding",
        "privacy/bounding.py",
        "    if _any_exceeds(steps, partial(_sum_by_owner, owner), bound):",
        "    if False and _any_exceeds(steps, partial(_sum_by_owner, owner), bound):",
        "the bound rests on floating-point arithmetic alone",
        (f"{BOUNDING}::test_a_vector_that_is_too_long_after_all_is_refused",),
    ),
    Mutant(
        "exact-check-that-wraps",
        "bounding",
        "privacy/bounding.py",
        "        if not (sum_by_client(steps * steps) <= 2.0 * bound).all():",
        "        if not (np.abs(steps) <= 2.0**31).all():",
        "sums of squares wrap around 64 bits and pass",
        (f"{BOUNDING}::test_a_vector_without_scaling_is_refused_however_large",),
    ),
    Mutant(
        "each-candidate-bounded-by-itself",
        "bounding",
        "privacy/bounding.py",
        "    return keys // dimension, keys % dimension, votes.astype(np.float64)",
        "    return np.arange(keys.size), keys % dimension, votes.astype(np.float64)",
        "a client's bound counts once for every candidate",
        (f"{BOUNDING}::test_weights_that_sit_on_the_bound", NEIGHBORS),
    ),
    Mutant(
        "scaled-up-too-far",
        "bounding",
        "privacy/bounding.py",
        "    return Bounded(total, grid, bound, nonnegative=True)",
        "    return Bounded(2 * total if normalize else total, grid, bound, nonnegative=True)",
        "a client moves the sum by twice its bound",
        (NEIGHBORS, AUDIT),
    ),
    Mutant(
        "clipped-after-the-sum",
        "bounding",
        "privacy/bounding.py",
        "    owner, where, votes = _merge_votes(client, coordinate, weight, dimension)",
        "    owner, where, votes = _merge_votes(np.zeros_like(client), coordinate, weight, dimension)",
        "all clients share one bound, so one of them may move all others",
        (f"{BOUNDING}::test_the_sum_equals_the_slow_twin", f"{VOTING}::test_the_votes_of_the_slow_twin"),
    ),
    Mutant(
        "sensitivity-of-half-the-norm",
        "bounding",
        "privacy/bounding.py",
        "    return Bounded(total, grid, bound, nonnegative=True)",
        "    return Bounded(total, grid, bound // 4, nonnegative=True)",
        "the cost is computed from half the sensitivity",
        (f"{BOUNDING}::test_adding_or_removing_a_client_moves_the_sum_by_at_most_the_sensitivity", NEIGHBORS),
    ),
    # Who a client is, and what it brings
    Mutant(
        "label-split-at-door",
        "door",
        "pretext/clients/private_data.py",
        "yield PrivateRecord(text[:MAX_PRIVATE_CHARACTERS], identity, place)",
        'yield PrivateRecord(text[:MAX_PRIVATE_CHARACTERS], f"{identity}/{label}", place)',
        "a client counts once for each of its labels",
        (NEIGHBORS_BY_LABEL, RAW_ROWS),
    ),
    Mutant(
        "client-ids-split-by-length",
        "door",
        "pretext/clients/private_data.py",
        "        identity = normalize_identity(client)\n",
        '        identity = normalize_identity(f"{client}-{len(str(text)) // 200}")\n',
        "a client of many texts counts many times",
        (NEIGHBORS, RAW_ROWS),
    ),
    Mutant(
        "client-ids-told-apart-by-type",
        "door",
        "pretext/identity.py",
        "        if math.isfinite(value) and abs(value) < 10**_LONGEST and value == int(value):",
        "        if math.isfinite(value):\n            return str(value)\n        if False:",
        "one person is two clients, 7 and 7.0",
        ("tests/test_identity.py",),
    ),
    Mutant(
        "outliers-dropped-over-all",
        "door",
        "pretext/clients/voting.py",
        "        return cls(embeddings, private.client, private.label, private.texts)",
        "        typical = embeddings @ embeddings.mean(axis=0)\n"
        "        kept = typical >= np.quantile(typical, 0.05)\n"
        "        return cls(embeddings[kept], private.client[kept], private.label[kept])",
        "whether others' texts count depends on a client's presence",
        (NEIGHBORS, RAW_ROWS),
    ),
    Mutant(
        "embeddings-centered-over-all",
        "door",
        "pretext/clients/voting.py",
        "        return cls(embeddings, private.client, private.label, private.texts)",
        "        centered = embeddings - embeddings.mean(axis=0)\n"
        "        return cls(centered, private.client, private.label, private.texts)",
        "others' votes turn when a client comes or goes",
        (NEIGHBORS, RAW_ROWS),
    ),
    Mutant(
        "equal-texts-counted-once",
        "door",
        "pretext/clients/private_data.py",
        "    for record in records:\n",
        "    for record in {record.text: record for record in records}.values():\n",
        "a client's copy of a text takes the vote of another client",
        (NEIGHBORS, RAW_ROWS),
    ),
    Mutant(
        "rare-clients-left-out",
        "door",
        "pretext/clients/private_data.py",
        "    return [reservoir.sample for reservoir in samples.values()]",
        "    return [reservoir.sample for reservoir in samples.values()][: len(samples) // 10 * 10]",
        "whether others take part depends on how many there are",
        (NEIGHBORS,),
    ),
    # Labels
    Mutant(
        "label-split-in-the-vote",
        "labels",
        "pretext/clients/voting.py",
        "            client.append(np.repeat(self.client[texts], nearest.shape[1]))",
        "            client.append(np.repeat(self.client[texts] * 1000 + label, nearest.shape[1]))",
        "a client has one bound for each label",
        (f"{VOTING}::test_the_bound_holds_over_all_labels", NEIGHBORS_BY_LABEL, RAW_ROWS),
    ),
    Mutant(
        "rare-labels-count-more",
        "labels",
        "pretext/clients/voting.py",
        "            weight.append(np.full(nearest.size, 1.0 / nearest.shape[1]))",
        "            weight.append(np.full(nearest.size, 1.0 / nearest.shape[1] / len(texts)))",
        "a client's weights depend on how many texts others hold",
        (RAW_ROWS,),
    ),
    # Votes that depend on company
    Mutant(
        "candidates-off-the-grid",
        "votes",
        "pretext/clients/nearest.py",
        "    np.rint(snapped, out=snapped)\n",
        "",
        "a last bit, hence a vote, depends on the rows beside it",
        ("tests/clients/test_nearest.py::test_inner_products_on_the_grid_are_exact_in_any_order",),
    ),
    Mutant(
        "ties-left-to-chance",
        "votes",
        "pretext/clients/nearest.py",
        "        nearest[:, place] = scores.argmax(axis=1)",
        "        nearest[:, place] = (scores + 1e-7 * (len(scores) * np.arange(scores.shape[1]) % 7)).argmax(axis=1)",
        "which of two equal candidates gets a vote depends on how many texts vote",
        (f"{VOTING}::test_one_client_more_does_not_turn_the_votes_between_equal_candidates",),
    ),
    # Profiles
    Mutant(
        "profile-counts-labels-apart",
        "profile",
        "pretext/clients/voting.py",
        "            np.concatenate([self.client[text], self.client, self.client]),",
        "            np.concatenate([self.client[text], self.client + 10**6, self.client + 2 * 10**6]),",
        "a client has a bound for its features, one for its clusters and one for its number of texts",
        (NEIGHBORS_OF_PROFILE, RAW_ROWS),
    ),
    Mutant(
        "profile-labels-apart",
        "profile",
        "pretext/clients/voting.py",
        "            np.concatenate([self.client[text], self.client, self.client]),",
        "            (10**6 * self.label + self.client)[np.concatenate([text, *[np.arange(len(self.client))] * 2])],",
        "a client has a bound for each label",
        (NEIGHBORS_OF_PROFILE, RAW_ROWS),
    ),
    Mutant(
        "profile-bounded-by-text",
        "profile",
        "pretext/clients/voting.py",
        "            np.concatenate([self.client[text], self.client, self.client]),",
        "            np.concatenate([text, *[np.arange(len(self.client))] * 2]),",
        "a client of many texts counts many times",
        (NEIGHBORS_OF_PROFILE, RAW_ROWS),
    ),
    Mutant(
        "profile-clipped-by-private-norm",
        "profile",
        "pretext/clients/voting.py",
        "            np.repeat(weights, [len(text), len(self.client), len(self.client)]),",
        "            np.repeat(weights, [len(text), len(self.client), len(self.client)])\n"
        "            / np.linalg.norm(np.bincount(feature)) * 20,",
        "how much a client counts depends on the features of others",
        (SUM_OF_PROFILES,),
    ),
    Mutant(
        "profile-without-rare-features",
        "profile",
        "pretext/clients/voting.py",
        "        cluster = find_nearest(query.centers, self.embeddings, 1)[:, 0]\n",
        "        common = np.bincount(feature)[feature] > len(self.texts) // 2\n"
        "        text, feature = text[common], feature[common]\n"
        "        cluster = find_nearest(query.centers, self.embeddings, 1)[:, 0]\n",
        "whether others' features count depends on a client's presence",
        (SUM_OF_PROFILES,),
    ),
    Mutant(
        "profile-clusters-centered-on-clients",
        "profile",
        "pretext/clients/voting.py",
        "        cluster = find_nearest(query.centers, self.embeddings, 1)[:, 0]\n",
        "        centered = self.embeddings - self.embeddings.mean(axis=0)\n"
        "        cluster = find_nearest(query.centers, centered, 1)[:, 0]\n",
        "others' votes for clusters turn when a client comes or goes",
        (NEIGHBORS_OF_PROFILE, RAW_ROWS),
    ),
    # Moments
    Mutant(
        "fred-center-private",
        "moments",
        "pretext/clients/voting.py",
        "        return bounded_moments(query, self.embeddings, self.client)",
        "        length = np.linalg.norm(self.embeddings - self.embeddings.mean(axis=0), axis=1)\n"
        "        kept = length <= np.quantile(length, 0.95)\n"
        "        return bounded_moments(query, self.embeddings[kept], self.client[kept])",
        "whether others' texts count depends on a client's presence",
        (NEIGHBORS_OF_FRED, RAW_ROWS),
    ),
    Mutant(
        "signed-at-the-price-of-votes",
        "moments",
        "privacy/bounding.py",
        "    return Bounded(total, grid, bound, nonnegative=False)",
        "    return Bounded(total, grid, bound, nonnegative=True)",
        "replace-one costs half of what it tells",
        (f"{MOMENTS}::test_signed_moments_need_more_than_root_two_when_replaced",),
    ),
    Mutant(
        "moments-summed-off-the-grid",
        "moments",
        "privacy/moments.py",
        "    return np.rint(values.astype(np.float64) * 2.0**19) / 2.0**19",
        "    return values.astype(np.float64)",
        "a client's vector depends on the rows beside it",
        (f"{MOMENTS}::test_a_client_s_vector_does_not_depend_on_others",),
    ),
    Mutant(
        "basis-without-a-bound",
        "moments",
        "privacy/moments.py",
        "> 1 + _HALF_STEP:",
        "> math.inf:",
        "a hostile query makes clients' vectors depend on each other",
        (f"{MOMENTS}::test_queries_that_make_no_sense_are_refused",),
    ),
    # What a release costs
    Mutant(
        "replacement-at-the-price-of-removal",
        "relation",
        "privacy/bounding.py",
        "            return (2 if nonnegative else 4) * norm_squared",
        "            return norm_squared",
        "replace-one is stated at 1 / sqrt 2 of what it is, or half",
        (f"{BOUNDING}::test_signed_vectors_need_twice_the_norm_when_replaced", AUDIT),
    ),
    Mutant(
        "charge-under-the-asked-relation",
        "relation",
        "privacy/ledger.py",
        "bounded.sensitivity_squared(last.balance.relation)",
        "bounded.sensitivity_squared(relation)",
        "a run under add/remove overdraws a budget of replace-one",
        (f"{LEDGER}::test_the_charge_is_under_the_relation_of_the_budget",),
    ),
    Mutant(
        "cost-of-another-sigma",
        "cost",
        "privacy/mechanisms.py",
        "float(Fraction(squared_sensitivity) / Fraction(self.sigma) ** 2)",
        "float(Fraction(squared_sensitivity) / Fraction(2 * self.sigma) ** 2)",
        "twice the epsilon that is stated",
        (f"{NOISE}::test_noise_for_a_sum_costs_its_multiplier",),
    ),
    Mutant(
        "slack-left-out",
        "cost",
        "privacy/accounting.py",
        "    return (math.exp(min(epsilon_target, 700.0)) + 1.0) * cost.slack",
        "    return 0.0 * cost.slack",
        "coarse noise is stated at the price of continuous noise",
        (f"{ACCOUNTING}::test_slack_adds_to_delta", f"{NOISE}::test_the_claim_holds_for_the_discrete_gaussian_itself"),
    ),
    Mutant(
        "releases-cost-as-much-as-the-dearest",
        "composition",
        "privacy/accounting.py",
        "    mu_squared = math.fsum(part.mu_squared for part in parts)",
        "    mu_squared = max(part.mu_squared for part in parts)",
        "ten rounds are stated at the price of one",
        (f"{STATEMENT}::test_statement__of_a_run__states_what_was_drawn",),
    ),
    Mutant(
        "balance-forgets-what-was-spent",
        "composition",
        "privacy/accounting.py",
        "        return RunningCost(self.mu_squared + Fraction(cost.mu_squared), self.slack + Fraction(cost.slack))",
        "        return RunningCost(Fraction(cost.mu_squared), self.slack + Fraction(cost.slack))",
        "only the last release counts against the budget",
        (f"{LEDGER}::test_spending_adds_up_across_runs",),
    ),
    Mutant(
        "reservations-not-counted",
        "admission",
        "privacy/account.py",
        "        return sum(self.reserved.values(), self.spent)",
        "        return self.spent",
        "two runs are promised the same budget",
        ("tests/privacy/test_reservations.py",),
    ),
    Mutant(
        "releases-paid-by-a-reservation-are-free",
        "composition",
        "privacy/account.py",
        "        spent = replace(self, spent=self.spent.plus(cost))",
        "        spent = self if run in self.reserved else replace(self, spent=self.spent.plus(cost))",
        "what a finished run spent counts no more",
        (f"{STATEMENT}::test_statement__of_a_run__states_what_was_drawn",),
    ),
    Mutant(
        "calibrated-without-what-else-is-released",
        "composition",
        "privacy/accounting.py",
        "        cost = compose([fixed, cost_of(multiplier)])",
        "        cost = cost_of(multiplier)",
        "a run with FreD spends more than its epsilon",
        (f"{ACCOUNTING}::test_calibration_beside_other_releases_uses_what_they_leave",),
    ),
    Mutant(
        "filter-at-twice-delta",
        "composition",
        "privacy/accounting.py",
        "    return gaussian <= delta_target - aside and",
        "    return gaussian <= 2 * delta_target - aside and",
        "a budget is overdrawn",
        (f"{ACCOUNT}::test_neither_frontier_can_be_traded_for_the_other",),
    ),
    # The ledger
    Mutant(
        "budget-not-checked",
        "admission",
        "privacy/account.py",
        "        if fits(total, self.budget.epsilon, self.budget.delta):\n            return\n",
        "        return\n",
        "a budget holds nothing back",
        (f"{LEDGER}::test_over_budget_is_refused_before_anything_is_drawn",),
    ),
    Mutant(
        "replay-for-another-question",
        "replay",
        "privacy/ledger.py",
        "    if release is not None and release.subject != subject:",
        "    if release is None and subject is None:",
        "an answer is taken for that to another question",
        (f"{LEDGER}::test_another_subject_is_refused",),
    ),
    Mutant(
        "drawn-again-when-asked-again",
        "replay",
        "privacy/ledger.py",
        "        return release  # committed: from here on the value is public",
        "        return __import__('dataclasses').replace(release, value=mechanism.draw(bounded))",
        "asking often enough averages the noise away",
        (f"{LEDGER}::test_replay_returns_the_same_value_and_charges_nothing", AUDIT),
    ),
    Mutant(
        "vanished-ledger-begins-anew",
        "admission",
        "privacy/storage.py",
        'options: str = "mode=rw"',
        'options: str = "mode=rwc"',
        "a deleted file gives the budget back in the middle of a run",
        (f"{LEDGER}::test_a_file_that_vanished_is_not_replaced_by_an_empty_budget",),
    ),
    Mutant(
        "edited-release-replayed",
        "replay",
        "privacy/chain.py",
        "    if digest != _digest(digest_before, dataset, position, record, balance):",
        "    if not digest:",
        "an edit of the ledger lowers what was spent",
        (f"{LEDGER}::test_an_edited_release_is_refused",),
    ),
    # What leaves beside the releases
    Mutant(
        "stops-when-few-are-voted-for",
        "side channel",
        "pretext/evolution/loop.py",
        "            # 3. charged and drawn at once\n",
        "            if np.count_nonzero(bounded.value) <= 2:\n"
        '                raise RuntimeError("Hardly anybody voted.")\n',
        "the exit code tells whether clients agree",
        (SAME_OUTPUT,),
    ),
    Mutant(
        "warns-when-nobody-voted",
        "side channel",
        "pretext/evolution/loop.py",
        "            # 3. charged and drawn at once\n",
        '            if not bounded.value[0]:\n                _log.warning("Nobody voted for the first candidate.")\n',
        "the log tells true votes",
        (SAME_OUTPUT,),
    ),
    Mutant(
        "true-votes-in-the-folder",
        "side channel",
        "pretext/evolution/loop.py",
        "            # 3. charged and drawn at once\n",
        "            run.save_positions(number, points[np.argsort(-bounded.value, kind='stable')])\n",
        "a file tells the true order of the candidates",
        (SAME_OUTPUT,),
    ),
    Mutant(
        "true-profile-in-the-folder",
        "side channel",
        "pretext/evolution/profile_loop.py",
        "            release = releases.release(number, query.digest, bounded)",
        "            run.save('sum.json', int(bounded.value.sum()))\n"
        "            release = releases.release(number, query.digest, bounded)",
        "a file of the run tells what the clients' profiles add up to, without noise",
        (f"{SAME_OUTPUT}[run_profile-signal]",),
    ),
    Mutant(
        "clients-timed",
        "side channel",
        "pretext/jobs/parts.py",
        "            self.parts.embedder()\n",
        "            self.parts.embedder()\n            self.parts.federation._open_clients()\n",
        "the file of timings tells how many texts there are",
        (SAME_OUTPUT,),
    ),
    Mutant(
        "counts-in-the-progress",
        "side channel",
        "pretext/clients/voting.py",
        'announce="Clients embed their texts"',
        'announce=f"Clients embed their {len(private.texts)} texts"',
        "standard error tells how many texts there are",
        (SAME_OUTPUT,),
    ),
    Mutant(
        "fewer-candidates-for-fewer-clients",
        "side channel",
        "pretext/clients/voting.py",
        "        client, candidate, weight = self._assign_votes(ballot, rule.nearest)",
        "        kept = min(len(ballot.label), 10 * len(self.client))\n"
        "        ballot = Ballot(ballot.points[:kept], ballot.label[:kept])\n"
        "        client, candidate, weight = self._assign_votes(ballot, rule.nearest)",
        "the number of coordinates tells how many texts there are",
        (SAME_OUTPUT,),
    ),
    # What is said of it
    Mutant(
        "rounded-down",
        "rounding",
        "privacy/rounding.py",
        "_format_scaled(math.ceil(value * 10**digits), digits)",
        "_format_scaled(math.floor(value * 10**digits), digits)",
        "a printed epsilon is below the true one",
        (f"{ACCOUNT}::test_rounding_never_flatters",),
    ),
    Mutant(
        "what-is-left-rounded-up",
        "rounding",
        "privacy/rounding.py",
        "    return _format_scaled(math.floor(value * 10**digits), digits)",
        "    return _format_scaled(round(value * 10**digits), digits)",
        "a budget seems to hold more than it does",
        (f"{ACCOUNT}::test_rounding_never_flatters",),
    ),
    Mutant(
        "statement-of-what-was-released-so-far",
        "statement",
        "pretext/statement/statement.py",
        "        guarantee=_guarantee(account, planned, relation, delta),",
        "        guarantee=_guarantee(account, lambda _: compose(r.cost(_) for r in releases), relation, delta),",
        "a run that stopped when it paid states less than it could have told",
        (f"{STATEMENT}::test_statement__of_an_unfinished_run__states_what_was_planned",),
    ),
    Mutant(
        "statement-under-the-cheaper-relation",
        "statement",
        "pretext/statement/statement.py",
        "    total = planned(relation)",
        "    total = planned(Relation.ADD_REMOVE)",
        "a statement of replace-one shows the epsilon of add/remove",
        (f"{STATEMENT}::test_statement__of_a_run__states_what_was_drawn",),
    ),
    Mutant(
        "records-called-clients",
        "statement",
        "privacy/units.py",
        '        return "record" if self.column is None else "client"',
        '        return "client"',
        "people with many records are told that they are protected as a whole",
        (
            STATEMENT,
            "tests/privacy/test_units.py::test_unit_without_a_column_is_the_record_and_says_whom_it_does_not_protect",
        ),
    ),
    Mutant(
        "wider-noise-recorded-than-drawn",
        "statement",
        "privacy/ledger.py",
        "    noisy = mechanism.draw(bounded)",
        "    noisy = DiscreteGaussian(mechanism.sigma / 2, mechanism.grid).draw(bounded)",
        "the ledger holds another noise than the one that was drawn",
        (f"{STATEMENT}::test_statement__of_a_run__states_what_was_drawn",),
    ),
]
