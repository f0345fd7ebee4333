"""Addresses of the services, from the environment, under the names that every tool already knows.

boto3 and Prefect read their own variables (`AWS_*`, `PREFECT_*`) themselves.
"""

import tempfile
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.rendering.links import UiLinks
from tasks.triton_targets import TritonTarget, parse_targets


class Settings(BaseSettings):
    """Build it when it is needed, never at import: the environment of a worker is known only when it runs."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    prefect_api_url: str = "http://127.0.0.1:4200/api"
    prefect_ui_url: str = Field("", description="Prefect as browsers reach it; empty: PREFECT_API_URL without /api.")
    mlflow_tracking_uri: str = "http://127.0.0.1:5000"
    mlflow_ui_url: str = Field("", description="MLflow as browsers reach it; empty: MLFLOW_TRACKING_URI.")
    studio_live_url: str = Field("http://127.0.0.1:8003/live", description="The live page as browsers reach it.")
    triton_http_url: str = "127.0.0.1:8000"
    triton_grpc_url: str = "127.0.0.1:8001"
    triton_targets: str = Field(
        "",
        description="All Tritons, `GRPC/HTTP,GRPC/HTTP`, each address as host:port; `dns:` in front makes one of each "
        "address of the host. Empty: one, at TRITON_GRPC_URL and TRITON_HTTP_URL.",
    )
    studio_triton_key: SecretStr = Field(SecretStr(""), description="Opens the load API of every Triton.")
    label_studio_url: str = Field(
        "", description="Label Studio as workers and browsers reach it; empty: there is none."
    )
    label_studio_api_key: SecretStr = SecretStr("")
    cvat_url: str = Field("", description="CVAT as workers and browsers reach it; empty: there is none.")
    cvat_access_token: SecretStr = Field(SecretStr(""), description="Of a user there; without it, name and password.")
    cvat_username: str = ""
    cvat_password: SecretStr = SecretStr("")
    cvat_organization: str = Field("", description="Short name of the organization there whose people review.")
    studio_s3_url: str = Field("", description="The object store as browsers reach it; empty: AWS_ENDPOINT_URL.")
    studio_links_access_key_id: str = Field(
        "", description="Signs links; without it the `AWS_*` key of the process does."
    )
    studio_links_secret_access_key: SecretStr = SecretStr("")
    studio_live_log_dir: Path | None = Field(
        None,
        description="Folder of the live log that model `predict` writes; none: live predictions are not monitored.",
    )
    studio_scratch_dir: Path = Field(Path(tempfile.gettempdir()), description="Parent of every run's scratch folder.")

    @field_validator("triton_targets")
    @classmethod
    def _are_targets(cls, text: str) -> str:
        parse_targets(text)
        return text

    @property
    def triton_target_list(self) -> list[TritonTarget]:
        """Where the Tritons are, as the environment says: one or more."""
        return parse_targets(self.triton_targets) or [TritonTarget(self.triton_grpc_url, self.triton_http_url)]

    @property
    def addresses(self) -> UiLinks:
        """The addresses of the pages that other pages link."""
        prefect = self.prefect_ui_url or self.prefect_api_url.rstrip("/").removesuffix("/api")
        mlflow = self.mlflow_ui_url or self.mlflow_tracking_uri
        return UiLinks(prefect=prefect.rstrip("/"), mlflow=mlflow.rstrip("/"), live=self.studio_live_url.rstrip("/"))
