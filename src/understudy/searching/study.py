"""An Optuna study that can be stopped or killed, resumed, and shared by several processes and machines.

It has one objective, the validation metric of the shipped form. The budget is a constraint, checked before a student is tried. Costs are
not a second objective: within the budget a cheaper student is not better, and measured latency would make searches irreproducible.
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

HEARTBEAT_SECONDS, DEAD_AFTER_SECONDS = 10, 60  # a trial without a heartbeat for so long was killed, and is tried again
_RETRIES = 3  # of a trial whose process dies
_WARM_UP, _PEERS = 3, 3  # evaluations of a trial, and trials to compare it with, before it may be stopped
_DESCRIPTION = "understudy"
_DESCRIBED_SECONDS = 30  # that another process may need from making the study to describing it


def need_optuna() -> None:
    """Refuse to go on without Optuna.

    Raises:
        ModelError: it is not installed; with the command that installs it.
    """
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise ModelError(f"a search needs optuna, which is not installed; run: {install_command('search')}")


def open_storage(url: str) -> RDBStorage:
    """Connect to a database, and make Optuna's tables if they do not exist.

    Raises:
        RunFolderError: it cannot be opened; the message shows no password.
    """
    import optuna

    waits = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}

    def connect() -> RDBStorage:
        with _quietly():
            return optuna.storages.RDBStorage(
                _with_driver(url),
                engine_kwargs=waits,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=DEAD_AFTER_SECONDS,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
                    max_retry=_RETRIES, inherit_intermediate_values=True
                ),
            )

    try:
        try:
            return connect()
        except Exception as error:
            if not re.search("exist|unique", str(error), re.IGNORECASE):
                raise
            time.sleep(2)  # another worker made the tables at the same time; they exist now
            return connect()
    except Exception as error:  # of SQLAlchemy, the driver or Optuna: whichever, it cannot be used
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise RunFolderError(
            f"--storage {without_password(url)}: cannot be opened: {reason}. Write it as sqlite:///file.db or "
            "postgresql://user@host/database"
        ) from error


def without_password(url: str) -> str:
    """The URL of a database, without its password.

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
    """The URL of PostgreSQL with the driver that is installed; without one SQLAlchemy needs psycopg2, and from 2.1 on psycopg."""
    from importlib.util import find_spec

    scheme, separator, rest = url.partition("://")
    drivers = [name for name in ("psycopg", "psycopg2") if find_spec(name) is not None]
    return f"postgresql+{drivers[0]}://{rest}" if scheme == "postgresql" and separator and drivers else url


class SharedStudy:
    """The trials of a search, of all its workers.

    A trial counts unless it failed: trials of killed processes fail, and are repeated with the same settings. Those that count have places
    0, 1, …; what is drawn for a place depends on the seed, the place and the trials before it, so that a search that was stopped is
    resumed as if it had not been.

    Args:
        storage: see `open_storage`.
        name: of the study in it.
        seed: for drawing.
        worker: the name of this process; trials of this name that are still running at the start were killed.
        metric: of which the values of trials are.
    """

    def __init__(self, storage: RDBStorage, name: str, *, seed: int, worker: str, metric: Metric) -> None:
        self.storage, self.name, self.seed, self.worker, self.metric = storage, name, seed, worker, metric
        self._study: Study | None = None

    @property
    def study(self) -> Study:
        assert self._study is not None, "opened or made first"
        return self._study

    def open(self) -> dict[str, Any] | None:
        """Join the study; returns its description, or None if it does not exist.

        Raises:
            RunFolderError: it has no description: its process was killed before writing it.
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
        """Make the study, unless another process just did; returns its description, the same for all workers."""
        import optuna

        try:
            with _quietly():
                study = optuna.create_study(
                    study_name=self.name, storage=self.storage, direction="maximize" if self.metric.better == "higher" else "minimize"
                )
                study.set_user_attr(_DESCRIPTION, described)
        except optuna.exceptions.DuplicatedStudyError:
            pass
        description = self.open()
        assert description is not None
        return description

    @property
    def trials(self) -> list[FrozenTrial]:
        """The trials that count, in their order."""
        from optuna.trial import TrialState

        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]

    def count(self, *states: str) -> int:
        """How many trials are in one of the states, as in `count("RUNNING", "WAITING")`."""
        return sum(trial.state.name in states for trial in self.trials)

    @property
    def best(self) -> float | None:
        """The best value so far."""
        done = [trial.value for trial in self.trials if trial.state.name == "COMPLETE" and trial.value is not None]
        return max(done, key=self.metric.signed, default=None)

    def recover(self) -> None:
        """Repeat the trials that this worker left running."""
        for trial in self.trials:
            if trial.state.name == "RUNNING" and trial.user_attrs.get("worker") == self.worker:
                self.study.tell(trial.number, state=_failed())
                self._again(trial.number)

    def revive(self) -> None:
        """Repeat the trials of other workers that were killed."""
        import optuna

        with _quietly():
            optuna.storages.fail_stale_trials(self.study)

    def run_trial(self, total: int, work: Callable[[Trial], float]) -> None:
        """Make a trial, unless there are `total` by now. An interrupted trial will be repeated."""
        started: list[int] = []

        def objective(trial: Trial) -> float:
            place = sum(counted.number < trial.number for counted in self.trials)
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
        """Record the validation metric of a trial after `step` evaluations.

        Raises:
            TrialPruned: its training should stop; see `unpromising`.
        """
        import optuna

        if step not in self._trial(trial.number).intermediate_values:  # a repeated trial keeps its values from before
            trial.report(value, step)
        if unpromising(self._trial(trial.number), (finished for finished in self.trials if finished.state.name == "COMPLETE"), self.metric):
            raise optuna.TrialPruned("below the median of trials with students of this kind and at most this size")

    def _taken_over(self, number: int) -> bool:
        """Whether other workers took this trial for killed (its machine was suspended, say), and repeat it."""
        return any(number in trial.system_attrs.get("retry_history", ()) for trial in self.study.get_trials(deepcopy=False))

    def _again(self, number: int) -> None:
        import optuna

        with _quietly():
            optuna.storages.RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(self.study, self._trial(number))

    def _trial(self, number: int) -> FrozenTrial:
        return next(trial for trial in self.study.get_trials() if trial.number == number)

    def _sampler(self, place: int) -> Any:
        import numpy as np
        import optuna

        seed = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
        return optuna.samplers.TPESampler(seed=seed)


class _Surplus(Exception):
    """A trial beyond the total: two workers started the last one at the same time."""


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def unpromising(trial: FrozenTrial, others: Iterable[FrozenTrial], metric: Metric) -> bool:
    """Whether a trial is worse, at the same step of its training, than the median of trials with the same kind of student, no larger.

    Larger students are not compared: a small student that is worse than a large one may still be the best of its size. Latency is not
    compared, because it would differ in another search.
    """
    step = max(trial.intermediate_values, default=0)
    if step < _WARM_UP:
        return False

    def best(trial: FrozenTrial) -> float:
        return max(metric.signed(value) for at, value in trial.intermediate_values.items() if at <= step)

    kind, parameters = trial.user_attrs["kind"], trial.user_attrs["parameters"]
    peers = [
        best(peer)
        for peer in others
        if peer.user_attrs["kind"] == kind and peer.user_attrs["parameters"] <= parameters and step in peer.intermediate_values
    ]
    return len(peers) >= _PEERS and best(trial) < statistics.median(peers)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Suppress Optuna's warnings that heartbeats are experimental."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
