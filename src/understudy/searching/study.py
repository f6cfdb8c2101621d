"""A study of Optuna's that may be stopped, killed, gone on with, and shared by several processes and machines.

One objective: the validation metric of what ships. The budget is a constraint, which every student that is tried has met before; among
students within it a cheaper one is no better, and latency, being measured, would make no two searches alike.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from understudy.errors import ModelError, RunFolderError
from understudy.installation import install_command

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from understudy.tasks import Metric

HEARTBEAT_SECONDS, DEAD_AFTER_SECONDS = 10, 60  # a trial without a beat for so long was killed, and is tried again
_RETRIES = 3  # of a trial that takes its process down
_WARM_UP, _PEERS = 3, 3  # evaluations, and trials to compare with, before one may be stopped
_DESCRIPTION = "understudy"
_DESCRIBED_SECONDS = 30  # that another process may take from making the study to describing it


def need_optuna() -> None:
    """Refuse where the extra is not installed.

    Raises:
        ModelError: naming it.
    """
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise ModelError(f"a search needs optuna, which is not installed; run: {install_command('search')}")


def open_storage(url: str) -> RDBStorage:
    """Connect to a database, and make Optuna's tables where they are not there.

    Raises:
        RunFolderError: it cannot be opened; the message shows no password.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    waits = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}

    def connect() -> RDBStorage:
        with _quietly():
            return optuna.storages.RDBStorage(
                _with_driver(url), engine_kwargs=waits, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=DEAD_AFTER_SECONDS,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
                    max_retry=_RETRIES, inherit_intermediate_values=True
                ),
            )  # fmt: skip

    try:
        try:
            return connect()
        except Exception as error:
            if not re.search("exist|unique", str(error), re.IGNORECASE):
                raise
            time.sleep(2)  # two workers made the tables at once; those of the other are there now
            return connect()
    except Exception as error:  # of SQLAlchemy, of the driver, or of Optuna: all say that it cannot be used
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise RunFolderError(
            f"--storage {without_password(url)}: cannot be opened: {reason}. Write it as sqlite:///file.db or "
            "postgresql://user@host/database"
        ) from error


def without_password(url: str) -> str:
    """A database's URL as it may be shown.

    >>> without_password("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.rpartition("@")[2]


def _with_driver(url: str) -> str:
    """PostgreSQL by the driver that is installed: for a plain URL SQLAlchemy asks for psycopg2, and from 2.1 on for psycopg."""
    from importlib.util import find_spec

    scheme, separator, rest = url.partition("://")
    drivers = [name for name in ("psycopg", "psycopg2") if find_spec(name) is not None]
    return f"postgresql+{drivers[0]}://{rest}" if scheme == "postgresql" and separator and drivers else url


class SharedStudy:
    """The trials of one search, wherever they are made.

    A trial counts unless it failed: those of killed processes fail, and come again with the same settings. Trials have places, 0, 1, …
    among those that count; what is drawn for a place depends on the seed, the place and the trials before: one that was stopped
    goes on as if it had not been.

    Args:
        storage: see `open_storage`.
        name: of the study in it.
        seed: of what is drawn.
        worker: who makes the trials here; those that it left running were killed.
        metric: whose values trials have.
    """

    def __init__(self, storage: RDBStorage, name: str, *, seed: int, worker: str, metric: Metric) -> None:
        self.storage, self.name, self.seed, self.worker, self.metric = storage, name, seed, worker, metric
        self._study: Study | None = None

    @property
    def study(self) -> Study:
        assert self._study is not None, "opened or made first"
        return self._study

    def open(self) -> dict[str, Any] | None:
        """Join the study, if it is there; returns what its maker said of it.

        Raises:
            RunFolderError: it was never described: its maker was killed in that moment.
        """
        import optuna

        try:
            with _quietly():
                self._study = optuna.load_study(study_name=self.name, storage=self.storage, sampler=self._sampler(0))
        except KeyError:
            return None
        for _ in range(_DESCRIBED_SECONDS):
            if (described := self.study.user_attrs.get(_DESCRIPTION)) is not None:
                return described
            time.sleep(1)
        raise RunFolderError(f"study {self.name}: incomplete; delete it from its database")

    def make(self, described: dict[str, Any]) -> dict[str, Any]:
        """Make the study, unless another process just did; returns the description that counts for all."""
        import optuna

        try:
            with _quietly():
                made = optuna.create_study(
                    study_name=self.name, storage=self.storage,
                    direction="maximize" if self.metric.better == "higher" else "minimize",
                )  # fmt: skip
                made.set_user_attr(_DESCRIPTION, described)
        except optuna.exceptions.DuplicatedStudyError:
            pass
        found = self.open()
        assert found is not None
        return found

    @property
    def trials(self) -> list[FrozenTrial]:
        """Those that count, in their order."""
        from optuna.trial import TrialState

        return [one for one in self.study.get_trials(deepcopy=False) if one.state != TrialState.FAIL]

    def count(self, *states: str) -> int:
        """How many trials are in one of the states, as in `count("RUNNING", "WAITING")`."""
        return sum(one.state.name in states for one in self.trials)

    @property
    def best(self) -> float | None:
        """The best value so far."""
        done = [one.value for one in self.trials if one.state.name == "COMPLETE" and one.value is not None]
        return max(done, key=self.metric.signed, default=None)

    def recover(self) -> None:
        """Have the trials that this worker left running tried again."""
        for trial in self.trials:
            if trial.state.name == "RUNNING" and trial.user_attrs.get("worker") == self.worker:
                self.study.tell(trial.number, state=_failed())
                self._again(trial.number)

    def revive(self) -> None:
        """Have the trials of other workers that were killed tried again."""
        import optuna

        with _quietly():
            optuna.storages.fail_stale_trials(self.study)

    def run_one(self, total: int, work: Callable[[Trial], float]) -> None:
        """Make one trial, unless others have made `total` in the meantime. One that is interrupted will be tried again."""
        started: list[int] = []

        def objective(trial: Trial) -> float:
            place = sum(one.number < trial.number for one in self.trials)
            if place >= total:
                raise _Surplus
            started.append(trial.number)
            trial.set_user_attr("worker", self.worker)
            self.study.sampler = self._sampler(place)
            return work(trial)

        try:
            with _quietly():
                self.study.optimize(objective, n_trials=1, catch=(_Surplus,))
        except BaseException:
            if started and self._taken_over(started[0]):
                return
            if started:
                self._again(started[0])
            raise

    def report(self, trial: Trial, value: float, step: int) -> None:
        """Tell how good a trial is after `step` evaluations.

        Raises:
            TrialPruned: it is not worth its training; see `unpromising`.
        """
        import optuna

        if (
            step not in self._trial(trial.number).intermediate_values
        ):  # one that was killed comes again with what it had said
            trial.report(value, step)
        if unpromising(
            self._trial(trial.number), (one for one in self.trials if one.state.name == "COMPLETE"), self.metric
        ):
            raise optuna.TrialPruned("below the median of trials with students of this kind and at most this size")

    def _taken_over(self, number: int) -> bool:
        """Whether other workers took this trial for dead (a laptop that slept), and try it again."""
        return any(number in one.system_attrs.get("retry_history", ()) for one in self.study.get_trials(deepcopy=False))

    def _again(self, number: int) -> None:
        import optuna

        with _quietly():
            optuna.storages.RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(
                self.study, self._trial(number)
            )

    def _trial(self, number: int) -> FrozenTrial:
        return next(one for one in self.study.get_trials() if one.number == number)

    def _sampler(self, place: int) -> Any:
        import numpy as np
        import optuna

        seed = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
        return optuna.samplers.TPESampler(seed=seed)


class _Surplus(Exception):
    """A trial too many: two workers began the last one at once."""


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def unpromising(trial: FrozenTrial, others: Iterable[FrozenTrial], metric: Metric) -> bool:
    """Whether a trial is worse, at the same part of its training, than the median of those with the same kind of student, no larger.

    Larger ones are no measure: a small student that is worse than a large one may still be the best of its size. Nor is latency, which
    would not be the same in another search.
    """
    step = max(trial.intermediate_values, default=0)
    if step < _WARM_UP:
        return False

    def best(one: FrozenTrial) -> float:
        return max(metric.signed(value) for at, value in one.intermediate_values.items() if at <= step)

    kind, parameters = trial.user_attrs["kind"], trial.user_attrs["parameters"]
    peers = [
        best(one)
        for one in others
        if one.user_attrs["kind"] == kind
        and one.user_attrs["parameters"] <= parameters
        and step in one.intermediate_values
    ]
    return len(peers) >= _PEERS and best(trial) < statistics.median(peers)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without Optuna's remarks that heartbeats are an experiment."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
