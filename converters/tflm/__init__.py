"""TensorFlow Lite Micro on the host: operators, memory planner, arena, runner."""
