"""Which deployment next. Pure: time and randomness are arguments; nothing here touches a socket."""
