"""What an account may do, in four steps: three of people, and one of machines."""

from enum import IntEnum


class UserRole(IntEnum):
    """Each may do what the one before may, and more."""

    VIEWER = 1  # looks at everything, changes nothing
    OPERATOR = 2  # uploads, starts and stops runs, answers questions
    WORKER = 3  # no person: carries out runs on another machine, says how they go and keeps what they make
    ADMIN = 4  # changes deployments, accounts and what belongs to others

    def __str__(self) -> str:
        """Return its name as people write it."""
        return self.name.lower()

    @classmethod
    def parse(cls, name: str) -> "UserRole":
        """Return the role of that name.

        Raises:
            ValueError: There is none.
        """
        for role in cls:
            if str(role) == name:
                return role
        raise ValueError(f"Expected a role, one of {', '.join(map(str, cls))}; found {name!r}.")
