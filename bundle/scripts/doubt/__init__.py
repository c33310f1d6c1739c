"""How sure a result is when there is no truth: several looks at an image, how far they agree, and what that says of the
label map. `scripts.calibrate` is its command."""
