"""Wire models of the daily close."""

from pydantic import Field, JsonValue

from gateway.api.wire_base import Time, Wire


class DayOut(Wire):
    """One closed UTC day."""

    day: str = Field(json_schema_extra={"format": "date"})
    livemode: bool
    sha256: str = Field(description="Of the report's canonical JSON: sorted keys, no spaces.")
    previous_sha256: str = Field(description="Of the closed day before; zeros for the first.")
    closed_by: str
    closed_at: Time


class DayReport(DayOut):
    """A closed day with its report; amounts in minor units."""

    report: dict[str, JsonValue]


class DayChecked(Wire):
    """Whether the journal still says what the report says."""

    day: str
    sha256: str
    holds: bool
