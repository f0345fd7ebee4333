"""Where the services are: the environment, under the names that every tool already knows.

boto3 and Prefect read their own variables (`AWS_*`, `PREFECT_*`) themselves.
"""

import tempfile
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Build it where it is needed, never at import: the environment of a worker is known only when it runs."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    mlflow_tracking_uri: str = "http://127.0.0.1:5000"
    triton_http_url: str = "127.0.0.1:8000"
    triton_grpc_url: str = "127.0.0.1:8001"
    studio_triton_key: SecretStr = Field(SecretStr(""), description="Opens Triton's load API.")
    studio_scratch_dir: Path = Field(Path(tempfile.gettempdir()), description="Parent of every run's scratch folder.")
