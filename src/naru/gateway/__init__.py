"""The straight path of a request: auth -> admit -> plan -> call -> relay -> settle."""
