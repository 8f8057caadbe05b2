"""What travels in the .mar: decode → infer → decide → explain, as pure functions around one frozen `Spec`."""
