"""The accessors that come with evsync."""
