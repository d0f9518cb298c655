"""A seeded, SIMULATED bank: no real person, no real bank. Feeds the demo, the tests and the benchmarks.

It knows nothing of features or tiles. Customers leave because of a latent satisfaction that no event states; what they
do follows that state only loosely, so that even an oracle who sees it cannot foretell all departures.
"""
