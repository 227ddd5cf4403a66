"""Adapting a model to one person."""

from vaegaze.training.finetune import FineTuned, StateMismatch, finetune
from vaegaze.training.loop import Step, TrainingDiverged, TrainingState

__all__ = ["FineTuned", "StateMismatch", "Step", "TrainingDiverged", "TrainingState", "finetune"]
