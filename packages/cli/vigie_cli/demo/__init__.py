"""`vigie demo`: a whole Vigie on a SIMULATED bank, from nothing to customers at risk, with every step shown."""
