"""Labels, point-in-time sets, training, calibration, gates and promotion into MLflow."""
