"""What is kept on disk: run folders, backbone folders, packed weights, checkpoints."""
