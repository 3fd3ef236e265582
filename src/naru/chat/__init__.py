"""`naru chat`: a conversation in the terminal. What is said and kept is decided without a screen; `screen`, `prompt` and `talk`
have the terminal."""
