"""The config of a run: strict, frozen, and in YAML only what differs from the defaults here. Its parts have a module each."""

from training.config.data import BUILT_IN, DataConfig, Layout, SplitConfig
from training.config.decisions import DecisionConfig, SubgroupConfig
from training.config.fitting import AugmentConfig, FitConfig, PhaseConfig
from training.config.pretraining import PretrainConfig, ViewsConfig
from training.config.run import BackendChoice, CardConfig, Config, load, read_tree

__all__ = [
    "BUILT_IN",
    "AugmentConfig",
    "BackendChoice",
    "CardConfig",
    "Config",
    "DataConfig",
    "DecisionConfig",
    "FitConfig",
    "Layout",
    "PhaseConfig",
    "PretrainConfig",
    "SplitConfig",
    "SubgroupConfig",
    "ViewsConfig",
    "load",
    "read_tree",
]
