"""Where exchanges differ: how a frame is routed and what is said to the exchange. All of it pure."""
