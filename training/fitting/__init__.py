"""From images to weights: batches, augmentation, losses, schedules, the loop, checkpoints, pretraining."""
