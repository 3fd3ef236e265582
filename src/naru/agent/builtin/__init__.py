"""Tools that come with Naru."""
