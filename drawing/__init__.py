"""Heat maps over pictures: what training's reports, `visor predict --explain` and the console draw. Needs NumPy and Pillow."""
