"""From logits to decisions that can be defended: calibration, thresholds, conformal sets, review, impact."""
