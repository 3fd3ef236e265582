"""Every error Naru raises on purpose. An error knows its HTTP status, whose fault it is, and whether a retry may help.

    NaruError
    ├── BadRequest            400  the caller's request cannot be served as it is
    │   ├── TooLarge          413  body over the limit
    │   ├── UnsupportedMedia  415
    │   └── IdempotencyMismatch   422  an Idempotency-Key of another request
    ├── Unauthorized          401  no key, a wrong key, a revoked or expired key
    ├── Unpriced              402  the model has no price, and serving it would bill a silent zero
    ├── BudgetExceeded        402  a budget of the key, its team or its organisation has not enough left
    ├── InsufficientCredits   402  the prepaid credits are used up
    ├── Forbidden             403  the key may not do this
    ├── NotFound              404  no such model, path or object
    │   └── MethodNotAllowed  405
    ├── Conflict              409  the object is not in the state this needs
    ├── RateLimited           429  a limit of ours, or of every deployment that could answer
    ├── Overloaded            503  no room now; try again
    │   └── ShuttingDown      503  this process is going away
    ├── UpstreamError         5xx  the provider failed; subclasses say how
    │   ├── UpstreamUnreachable   502  nothing was sent: connect, DNS, TLS, pool
    │   │   └── EngineUnavailable     503  a local engine does not run: it could not start, crashed, was stopped
    │   ├── UpstreamTimeout       504  connect, first byte, idle or total time ran out
    │   ├── UpstreamBroken        502  garbage, cut off, too large, not what was asked for
    │   ├── UpstreamRefused       the provider's own status (400, 404, 413, 422, 429, 5xx), in its own words
    │   └── UpstreamAuth          502  the provider refused the gateway's credential; never shown as the caller's 401
    ├── ConfigError                 exit code 78
    └── InternalError         500  a bug of ours

The HTTP shape of an error belongs to the dialects (`protocol/*/`), never to this module.
"""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """Who has to change something before the same request can succeed."""

    CALLER = "caller"
    UPSTREAM = "upstream"
    NARU = "naru"


class NaruError(Exception):
    """Base of all. `message` is shown to the caller: it says what is wrong and what to do next, and holds no secret.

    `type`, `code`, `param` are OpenAI's error fields; other dialects map from them. `retry_after_s` is in seconds.
    `is_retryable` says whether another deployment (or the same one, later) may answer the same request.
    """

    status = 500
    type: str = "server_error"
    code: str | None = "internal_error"
    fault = Fault.NARU
    is_retryable = False
    #: The message may repeat what the caller or a provider said. It is for the caller; logs and tables get `loggable`.
    is_quoting = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def loggable(self) -> str:
        """The message, where it is all our own words."""
        return "" if self.is_quoting else self.message


class BadRequest(NaruError):
    """The request is not one that Naru or any upstream could serve."""

    status = 400
    type = "invalid_request_error"
    code: str | None = "invalid_request"
    fault = Fault.CALLER
    is_quoting = True


class TooLarge(BadRequest):
    status = 413
    code: str | None = "request_too_large"


class UnsupportedMedia(BadRequest):
    status = 415
    code: str | None = "unsupported_media_type"


class IdempotencyMismatch(BadRequest):
    status = 422
    code: str | None = "idempotency_mismatch"


class Unauthorized(NaruError):
    status = 401
    type = "authentication_error"
    code: str | None = "invalid_api_key"
    fault = Fault.CALLER


class Unpriced(NaruError):
    status = 402
    type = "invalid_request_error"
    code: str | None = "model_unpriced"
    fault = Fault.CALLER


class BudgetExceeded(NaruError):
    """402, so that no client's retry logic hammers: waiting seconds does not help. `retry_after_s` is until the window ends."""

    status = 402
    type = "insufficient_quota"
    code: str | None = "budget_exceeded"
    fault = Fault.CALLER


class InsufficientCredits(NaruError):
    status = 402
    type = "insufficient_quota"
    code: str | None = "insufficient_credits"
    fault = Fault.CALLER


class Forbidden(NaruError):
    status = 403
    type = "permission_error"
    code: str | None = "permission_denied"
    fault = Fault.CALLER


class NotFound(NaruError):
    status = 404
    type = "invalid_request_error"
    code: str | None = "not_found"
    fault = Fault.CALLER


class MethodNotAllowed(NotFound):
    status = 405
    code: str | None = "method_not_allowed"


class Conflict(NaruError):
    status = 409
    type = "invalid_request_error"
    code: str | None = "conflict"
    fault = Fault.CALLER


class RateLimited(NaruError):
    status = 429
    type = "rate_limit_error"
    code: str | None = "rate_limit_exceeded"
    fault = Fault.CALLER
    is_retryable = True


class Overloaded(NaruError):
    status = 503
    type = "server_error"
    code: str | None = "overloaded"
    is_retryable = True


class ShuttingDown(Overloaded):
    code: str | None = "server_shutting_down"


class InternalError(NaruError):
    pass


class ConfigError(NaruError):
    """naru.toml, the environment or a flag is wrong. The message names the key and the nearest known one."""

    code: str | None = "config"
    fault = Fault.CALLER


class UpstreamError(NaruError):
    """A provider failed. `was_sent` is False while no byte of the request can have reached it."""

    status = 502
    code: str | None = "upstream_error"
    fault = Fault.UPSTREAM
    is_retryable = True
    was_sent = True


class UpstreamUnreachable(UpstreamError):
    code: str | None = "upstream_unreachable"
    was_sent = False


class EngineUnavailable(UpstreamUnreachable):
    """The message ends with the engine's own last words, where it had any."""

    status = 503
    code: str | None = "engine_unavailable"


class UpstreamTimeout(UpstreamError):
    status = 504
    code: str | None = "upstream_timeout"


class UpstreamBroken(UpstreamError):
    code: str | None = "upstream_invalid_response"


class UpstreamAuth(UpstreamError):
    """The provider does not take the gateway's credential. `said` is its status, or its own code that begins with one;
    `is_forbidden`: it knows the credential, and grants it no right to this (403)."""

    code: str | None = "upstream_auth"

    def __init__(self, said: int) -> None:
        super().__init__(
            f"The provider refused the gateway's own credential (status {said}). Your key is fine; the operator has to look at "
            "the provider's."
        )
        self.is_forbidden = str(said).startswith("403")


class UpstreamRefused(UpstreamError):
    """The provider answered with an error of its own; status, type and code are the provider's."""

    is_quoting = True

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str = "upstream_error",
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param, retry_after_s=retry_after_s)
        self.status = status
        self.type = type
        self.code = code
        self.is_retryable = status in RETRYABLE_STATUSES
        self.fault = Fault.UPSTREAM if self.is_retryable else Fault.CALLER


#: reliability.md 1.3: 529 is Anthropic's "overloaded"; 402 is DeepSeek's empty balance, which another account may not have.
RETRYABLE_STATUSES = frozenset({402, 408, 409, 429, 500, 502, 503, 504, 529})
