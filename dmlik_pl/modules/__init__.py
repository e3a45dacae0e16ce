"""LightningModules: they tie models, studies and trainings to a trainer."""
