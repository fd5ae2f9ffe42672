"""The loop of trainings, and drawing data ahead."""

import signal
import threading
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from samvideo.errors import ConfigError, SamVideoError
from samvideo.training.ahead import Ahead
from samvideo.training.engine import Stage, Validation, backward, fit

STAGE = Stage(6, rate=0.1, average=0.5, seed=3)
CPU = torch.device("cpu")


class Regression:
    """A tiny training with dropout, so that its random numbers matter; a signal may arrive in a step."""

    def __init__(self, interrupted: int = -1, broken: int = -1) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.interrupted, self.broken, self.log = interrupted, broken, list[str]()

    def gradients(self, step: int) -> dict[str, Tensor]:
        if step == self.interrupted:
            signal.raise_signal(signal.SIGINT)
        self.model.zero_grad()
        x = torch.randn(8, 3)
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        return backward({"loss": loss * (torch.nan if step == self.broken else 1), "size": x.abs().mean()})

    def fit(self, state: Path, stage: Stage = STAGE) -> list[Tensor]:
        fit(self.model, self.gradients, stage, state, self.log.append)
        return list(self.model.state_dict().values())


def test_a_resumed_training_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole = Regression().fit(tmp_path / "whole.state")
    first = Regression(interrupted=2)
    with pytest.raises(KeyboardInterrupt):
        first.fit(tmp_path / "state")
    assert "after step 3: the same command resumes it" in first.log[-1]
    rest = Regression()
    assert all(map(torch.equal, rest.fit(tmp_path / "state"), whole))
    assert rest.log[0] == "resumed after step 3"
    assert "step 6/6" in rest.log[-1]
    assert "loss " in rest.log[-1]
    again = Regression(interrupted=0)  # a finished stage is not trained again
    assert all(map(torch.equal, again.fit(tmp_path / "state"), whole))


def test_a_killed_training_goes_on_from_its_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samvideo.training.engine.REPORT_SECONDS", -1.0)
    whole = Regression().fit(tmp_path / "whole")
    killed = Regression()
    gradients = killed.gradients

    def until_killed(step: int) -> dict[str, Tensor]:
        if step == 4:
            raise SystemExit  # as sudden as SIGKILL: nothing is written any more
        return gradients(step)

    monkeypatch.setattr(killed, "gradients", until_killed)
    with pytest.raises(SystemExit):
        killed.fit(tmp_path / "state")
    rest = Regression()
    assert all(map(torch.equal, rest.fit(tmp_path / "state"), whole))
    assert rest.log[0] == "resumed after step 4"


def test_only_the_first_of_several_processes_writes(tmp_path: Path) -> None:
    state, other = tmp_path / "state", Regression()
    fit(other.model, other.gradients, STAGE, state, other.log.append, rank=1)
    assert not state.exists()
    assert all(map(torch.equal, other.model.state_dict().values(), Regression().fit(state)))


def test_states_that_do_not_fit_are_told(tmp_path: Path) -> None:
    state = tmp_path / "state"
    Regression().fit(state)
    with pytest.raises(ConfigError, match="of another training"):
        Regression().fit(state, Stage(7))
    other = Regression()
    other.model = nn.Sequential(nn.Linear(3, 1))
    with pytest.raises(ConfigError, match="not a state of this training"):
        other.fit(state)
    state.write_bytes(b"cut off")
    with pytest.raises(ConfigError, match="remove it"):
        Regression().fit(state)


def test_a_training_that_diverges_ends_and_leaves_no_state(tmp_path: Path) -> None:
    with pytest.raises(SamVideoError, match=r"diverged before step 6.*below 0\.1"):
        Regression(broken=3).fit(tmp_path / "state")
    assert not list(tmp_path.iterdir())


def test_the_result_is_the_average_of_the_weights(tmp_path: Path) -> None:
    training, seen = Regression(), list[Tensor]()

    def gradients(step: int) -> dict[str, Tensor]:
        seen.append(training.model[0].weight.detach().clone())
        return training.gradients(step)

    fit(training.model, gradients, Stage(3, average=0.3), tmp_path / "state", training.log.append)
    begin, *weights = seen
    average = begin
    for step, weight in enumerate(weights, 1):  # the last weights are not seen
        average = torch.lerp(average, weight, 1 - min(0.3, step / (step + 9)))
    last = (training.model[0].weight - average * 3 / 12) / (1 - 3 / 12)
    assert (last - weights[-1]).abs().max() < 2 * Stage.rate


def test_a_training_that_no_longer_improves_ends_with_its_best_weights(tmp_path: Path) -> None:
    def run(interrupted: int = -1) -> tuple[Regression, list[float]]:
        training, seen = Regression(interrupted), list[float]()

        def measure() -> dict[str, float]:
            seen.append(training.model[0].weight.sum().item())
            return {"score": -abs(len(seen) + done - 4.0), "weight": seen[-1]}

        fit(
            training.model,
            training.gradients,
            Stage(90, rate=0.1),
            state,
            training.log.append,
            (),
            Validation(measure, 2, 2),
        )
        return training, seen

    state, done = tmp_path / "whole", 0
    whole, seen = run()
    assert len(seen) == 6, "one before training"
    assert "ended after step 10: the validations before the last ones were better" in whole.log[-1]
    assert whole.log[0].startswith("validation before training: score -3.000, weight")
    assert "validation after step 6: score -0.000, weight" in whole.log[3]
    assert whole.model[0].weight.sum().item() == seen[3]
    again, nothing = run()
    assert not nothing, "what has ended stays so"
    assert torch.equal(again.model[0].weight, whole.model[0].weight)
    state = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        run(interrupted=6)
    done = 4
    rest, later = run()
    assert len(later) == 2
    assert torch.equal(rest.model[0].weight, whole.model[0].weight)


def test_a_training_that_only_harms_returns_the_weights_that_it_began_with(tmp_path: Path) -> None:
    begin = Regression().model[0].weight.detach().clone()

    def run(state: Path, interrupted: int = -1) -> Regression:
        training = Regression(interrupted)
        validation = Validation(lambda: {"score": -(training.model[0].weight - begin).abs().sum().item()}, 2, 3)
        fit(training.model, training.gradients, Stage(90, rate=0.1), state, training.log.append, (), validation)
        return training

    whole = run(tmp_path / "whole")
    assert torch.equal(whole.model[0].weight, begin)
    assert whole.log[0] == "validation before training: score -0.000"
    assert "ended after step 6" in whole.log[-2]
    assert "no validation was better than that before training" in whole.log[-1]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", interrupted=3)
    parts = run(tmp_path / "parts")
    assert parts.log[-2:] == whole.log[-2:]
    assert all(map(torch.equal, parts.model.state_dict().values(), whole.model.state_dict().values()))


def test_seconds_of_a_step_are_without_those_of_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, training = [0.0], Regression()
    monkeypatch.setattr("samvideo.training.engine.time", SimpleNamespace(monotonic=lambda: now[0]))

    def gradients(step: int) -> dict[str, Tensor]:
        now[0] += 2
        return training.gradients(step)

    def measure() -> dict[str, float]:
        now[0] += 100
        return {"score": 1.0}

    validation = Validation(measure, 2)
    fit(training.model, gradients, STAGE, tmp_path / "s", training.log.append, (), validation)
    assert "step 6/6 (2.00 s each)" in training.log[-1]


def test_events_are_written_where_tensorboard_is_installed(tmp_path: Path) -> None:
    training = Regression()
    validation = Validation(lambda: {"score": 1.0}, 2)
    fit(training.model, training.gradients, STAGE, tmp_path / "s", print, (), validation, tmp_path / "events")
    installed = find_spec("tensorboard") is not None
    assert len(list(tmp_path.glob("events/events.out.tfevents.*"))) == installed


def test_rates_rise_and_fall() -> None:
    factors = [Stage(100, warmup=0.1).factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001


def test_data_are_drawn_one_step_ahead_in_another_thread() -> None:
    drawn, threads, second = list[int](), set[str](), threading.Event()

    def draw(step: int) -> list[Tensor]:
        drawn.append(step)
        threads.add(threading.current_thread().name)
        if step == 1:
            second.set()
        return [torch.tensor(step, dtype=torch.float).requires_grad_() * 2]

    with Ahead(draw, 4, CPU) as ahead:
        assert ahead(0)[0] == 0
        assert second.wait(5)  # before it is asked for
        values = [ahead(step)[0] for step in range(1, 4)]
    assert [float(value) for value in values] == [2, 4, 6]
    assert drawn == [0, 1, 2, 3]
    assert threading.current_thread().name not in threads
    assert not values[0].requires_grad


def test_what_goes_wrong_ahead_is_raised_where_it_is_needed() -> None:
    def draw(step: int) -> list[Tensor]:
        if step == 2:
            raise ValueError("step 2")
        return [torch.zeros(1)]

    with Ahead(draw, 4, CPU) as ahead:
        ahead(0)
        ahead(1)
        with pytest.raises(ValueError, match="step 2"):
            ahead(2)
