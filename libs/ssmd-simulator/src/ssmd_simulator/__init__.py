"""An exchange that speaks Kalshi's WebSocket v2: seeded markets, or a recording played back."""
