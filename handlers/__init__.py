"""What travels in the .mar: decode → infer → decide → explain, as pure functions around one frozen `Spec`."""

import sys

# `import openvino` looks up Google Analytics, and sends it an event and a number by which it knows the user again, unless this
# package is missing; then OpenVINO takes a stand-in of its own. A module that is None is one that cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
