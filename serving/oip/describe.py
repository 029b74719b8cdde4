"""What a server tells of its models: metadata, configuration, statistics, index."""

from collections.abc import Iterable, Sequence

from inference import grpc_service_pb2 as pb
from inference import model_config_pb2 as config_pb
from serving.engines.engine import TensorSpec
from serving.models.options import VersionPolicy
from serving.models.served import IndexEntry, Served
from serving.models.statistics import Tally
from serving.oip.datatypes import datatype_of

_KINDS = {
    "cpu": config_pb.ModelInstanceGroup.KIND_CPU,
    "cuda": config_pb.ModelInstanceGroup.KIND_GPU,
}
_Tensor = pb.ModelMetadataResponse.TensorMetadata


def metadata(served: Served, versions: Iterable[str]) -> pb.ModelMetadataResponse:
    """Tells the tensors of a model and who it is; `versions` are those that may be asked for."""
    ref = served.model.ref
    facts = {
        "version": served.version,
        "artifact_sha256": ref.artifact_sha256,
        "experimental": "true" if ref.experimental else "false",
        "trained_on": ref.trained_on,
    }
    return pb.ModelMetadataResponse(
        name=served.name,
        versions=versions,
        platform=served.format.platform,
        inputs=_tensors(served.model.inputs),
        outputs=_tensors(served.model.outputs),
        properties={key: value for key, value in facts.items() if value},
    )


def _tensors(specs: Sequence[TensorSpec]) -> list[_Tensor]:
    return [
        _Tensor(name=spec.name, datatype=datatype_of(spec.dtype).name, shape=spec.shape)
        for spec in specs
    ]


def config(served: Served) -> config_pb.ModelConfig:
    """Tells how a model is served, as Triton's clients read it."""
    model, options = served.model, served.options
    max_rows = model.batcher.scheduler.config.max_batch_rows if model.is_batched else 0
    kind = _KINDS[options.device] if options else config_pb.ModelInstanceGroup.KIND_AUTO
    threads = config_pb.ModelParameter(string_value=str(options.threads)) if options else None
    skip = 1 if max_rows else 0
    ragged = options.ragged.inputs if options and options.ragged else ()
    return config_pb.ModelConfig(
        name=served.name,
        platform=served.format.triton_platform,
        backend=served.format.triton_backend,
        version_policy=_policy(options.versions) if options else None,
        max_batch_size=max_rows,
        input=[
            config_pb.ModelInput(
                name=spec.name,
                data_type=datatype_of(spec.dtype).config_type,
                dims=spec.shape[skip:],
                allow_ragged_batch=spec.name in ragged,
            )
            for spec in model.inputs
        ],
        output=[
            config_pb.ModelOutput(
                name=spec.name,
                data_type=datatype_of(spec.dtype).config_type,
                dims=spec.shape[skip:],
            )
            for spec in model.outputs
        ],
        instance_group=[
            config_pb.ModelInstanceGroup(name=served.name, count=model.instance_count, kind=kind)
        ],
        default_model_filename=served.format.file,
        dynamic_batching=config_pb.ModelDynamicBatching() if max_rows > 1 else None,
        parameters={"threads": threads} if threads else None,
    )


def _policy(policy: VersionPolicy) -> config_pb.ModelVersionPolicy:
    if policy.named:
        numbers = [int(version) for version in policy.named if version.isdecimal()]
        specific = config_pb.ModelVersionPolicy.Specific(versions=numbers)
        return config_pb.ModelVersionPolicy(specific=specific)
    if policy.latest is None:
        return config_pb.ModelVersionPolicy(all=config_pb.ModelVersionPolicy.All())
    latest = config_pb.ModelVersionPolicy.Latest(num_versions=policy.latest)
    return config_pb.ModelVersionPolicy(latest=latest)


def statistics(served: Served) -> pb.ModelStatistics:
    """Tells what was measured since the version was loaded."""
    requests, engine = served.statistics, served.model.statistics
    return pb.ModelStatistics(
        name=served.name,
        version=served.version,
        last_inference=requests.last_ms,
        inference_count=requests.rows,
        execution_count=engine.call_count,
        inference_stats=pb.InferStatistics(
            success=_duration(requests.success),
            fail=_duration(requests.failure),
            queue=_duration(requests.queue),
            compute_input=_duration(requests.preprocess),
            compute_infer=_duration(requests.compute),
            compute_output=_duration(requests.postprocess),
        ),
        batch_stats=[
            pb.InferBatchStatistics(batch_size=rows, compute_infer=_duration(tally))
            for rows, tally in sorted(engine.by_rows.items())
        ],
    )


def _duration(tally: Tally) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=tally.count, ns=round(tally.seconds * 1e9))


def index(entries: Iterable[IndexEntry]) -> pb.RepositoryIndexResponse:
    """Lists models and versions with their states."""
    return pb.RepositoryIndexResponse(
        models=[
            pb.RepositoryIndexResponse.ModelIndex(
                name=entry.name, version=entry.version, state=entry.state, reason=entry.reason
            )
            for entry in entries
        ]
    )
