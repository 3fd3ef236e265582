"""Tools that the gateway runs itself: the tool loop, inside. A caller names them in the request's `naru.tools`."""
