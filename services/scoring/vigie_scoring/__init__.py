"""Champion models, reasons, offers, decisions and the score log."""
