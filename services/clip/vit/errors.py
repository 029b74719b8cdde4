from serving.models.artifacts import ArtifactError


class CheckpointError(ArtifactError):
    """The given weights are missing, damaged or of an architecture that is not served here."""
