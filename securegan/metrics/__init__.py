"""Quality, robustness and detection figures as the README defines them: pure computing, never training, DDP aware."""
