"""`vigie catalogue`: what arrived, which catalogue name a spelling probably means, and whether events fit the plan."""
