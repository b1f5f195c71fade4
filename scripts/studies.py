"""Definitions of the studies: the overrides of every method. ``study.py`` runs them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Study:
    """What a study compares.

    Args:
        methods: overrides of each method, by its name in the tables.
        overrides: overrides of all methods, by ipc.
        datasets: options of the group ``dataset``.
        common: overrides of every job.
        pairs: pairs of methods whose paired difference is reported; the first is claimed better.
        evaluation: overrides of ``dcond evaluate`` that equal what ``common`` says of evaluation;
            with them ``--soft`` and ``--long`` evaluate the sets of the jobs in other ways too.
        steps: by (method, data set, ipc), the steps of jobs that were repeated on a slower machine,
            in float32 and without a time limit: what their first runs took in the time, on average.
    """

    methods: dict[str, str]
    overrides: dict[int, str]
    datasets: tuple[str, ...] = ("fashion_mnist", "cifar10")
    common: str = "experiment=cpu/table"
    pairs: tuple[tuple[str, str], ...] = ()
    evaluation: str = ""
    steps: dict[tuple[str, str, int], int] = field(default_factory=dict)


HMDC = {  # HMDC and its ablations
    "hmdc_convnet": "method=hmdc ~learners.networks.ViT",
    "hmdc_vit": "method=hmdc ~learners.networks.ConvNet",
    "hmdc_two": "method=hmdc method.gbm=false method.distillation=none",
    "hmdc_gbm": "method=hmdc method.distillation=none",
    "hmdc_md": "method=hmdc method.gbm=false",
    "hmdc": "method=hmdc",
}
SMALL = (  # two small networks and short runs
    "pool@learners=convnet_vit_small method.steps={steps} method.steps_per_network=4 "
    "method.inner_steps=4 method.lr=0.1 method.schedule=linear "
    "method.real_selection=random method.batch_real=64 method.batch_train=64"
)
DIGITS = "threads=1 baselines=false tensorboard=false evaluation.epochs=300"
FOUR = "+model@pool.networks.ViT=vit_small evaluation.epochs=100"  # a fourth network
# The network that labels the sets of a study with soft labels.
TEACHER = (
    "teacher=convnet teacher.network.width=32 teacher.epochs=10 teacher.temperature=1 threads=1"
)
EVALUATION = "evaluation=quick evaluation.repeats=1 threads=1 baselines=false"
LONG = f"pool=convnet pool.networks.ConvNet.width=32 {EVALUATION} evaluation.epochs=100"
QUEUE = "method.inner_steps=2 method.queue_size=10"
EQUAL_TIME = (
    *("random_decoded", "rded", "dsa", "dm", "idc", "m3d", "idm", "ncfm", "hmdc", "mtt", "datm"),
)
BANK = "method=m3d method.batch_real=128 method.targets=50"
TRIED = ("few", "kmeans", "means", "resnet", "vit", "ncfm_bank")
EXPERTS = "method.experts.count=3 method.experts.epochs=3"
TRAJECTORIES = (
    "method.experts.count=5 method.experts.epochs=10 method.student_steps=10 "
    "method.max_start_epoch=5 method.lr=1000"
)
TRAJECTORY_METHODS = {
    "mtt": "method.rate=0.05",
    "datm": "method.first_max_epoch=5 method.rate=0.02",
}
AT_IPC_50 = (
    *("random", "random_decoded", "kmeans", "rded", "dm", "m3d_bank", "ncfm", "idm", "dsa", "idc"),
)
RIVALS = {
    "random": "method=random",
    "random_decoded": "method=random method.factor=2",
    "kmeans": "method=kmeans method.rule.embedding.train_steps=100",
    "rded": "method=rded method.teacher.epochs=1 method.area=0.5",
    "dsa": "method=dsa method.batch_real=128",
    "dm": "method=dm method.batch_real=128",
    "idc": "method=idc method.batch_real=128",
    "m3d": "method=m3d method.batch_real=128",
    "m3d_bank": BANK,
    "m3d_kmeans": f"{BANK} init=aug_kmeans",
    "idm": f"method=idm {QUEUE} method.lr=2 method.batch_real=128",
    "idm_published": f"method=idm {QUEUE} method.batch_real=128",  # its rate, 0.2
    "ncfm": f"method=ncfm {EXPERTS} method.lr=0.02 method.batch_real=128",
    "hmdc": f"method=hmdc {SMALL.format(steps=20)}",
    **{m: f"method={m} {TRAJECTORIES} {own}" for m, own in TRAJECTORY_METHODS.items()},
    **{  # their image rate, 100
        f"{m}_published": f"method={m} {TRAJECTORIES} {own} method.lr=100"
        for m, own in TRAJECTORY_METHODS.items()
    },
}
FAMILY = "method=degm init=real"  # published runs start from noise, which needs thousands of steps
# Weights from scripts/pretrain.py. The ConvNet starts from scratch, as in the paper.
PRETRAINED = "dataset.path=outputs/pretrained/cifar5.npz dataset.flip=true " + " ".join(
    f"pool.networks.{name}.weights=outputs/pretrained/{name}.pt"
    for name in ("MLP", "ResNet", "ViT")
)
VIT_LEARNER = "learners.networks.ViT.weights=outputs/pretrained/ViT_learner.pt"
PUBLISHED_RATE = f"{SMALL.format(steps=5000)} method.lr=0.005 method.schedule=constant"


def compare_with_hmdc(
    ipc: int,
    extra: str = "",
    *,
    vit: str = "",
    times: int = 1,
    datasets: tuple[str, ...] = Study.datasets,
    **steps: int,
) -> Study:
    """Return a study of HMDC and its ablations against other methods.

    Args:
        ipc: images stored per class.
        extra: more overrides of all methods.
        vit: more overrides of the methods that condense with a ViT.
        times: factor of all steps.
        datasets: options of the group ``dataset``.
        steps: of each other method: as many as it takes in the time of HMDC with two networks.
    """
    small = SMALL.format(steps=60 * times)
    own = {
        name: f"{overrides} {small} {'' if name == 'hmdc_convnet' else vit}"
        for name, overrides in HMDC.items()
    }
    # a step with the ConvNet alone takes a third of HMDC's time
    longer = SMALL.format(steps=180 * times)
    own["hmdc_convnet_long"] = f"{HMDC['hmdc_convnet']} {longer}"
    return Study(
        {
            "random": "method=random",
            "random_decoded": "method=random method.factor=2",
            **{
                m: f"method={m} method.batch_real=128 method.steps={n * times}"
                for m, n in steps.items()
            },
            **own,
        },
        {ipc: f"engine.compile=false {extra}"},
        datasets=datasets,
        common="experiment=cpu/table +model@pool.networks.ViT=vit_small",
        pairs=(
            ("hmdc_two", "hmdc_convnet"),
            ("hmdc_two", "hmdc_vit"),
            ("hmdc_gbm", "hmdc_two"),
            ("hmdc_md", "hmdc_two"),
            *(
                ("hmdc", method)
                for method in ("hmdc_two", "hmdc_convnet", "hmdc_convnet_long", *reversed(steps))
            ),
        ),
    )


def rivals_at_50(dataset: str, limit: str, hmdc_steps: int, published: str = "") -> Study:
    """Return the study of the rivals at ipc 50.

    Args:
        dataset: option of the group ``dataset``.
        limit: overrides that say how long to condense, and how.
        hmdc_steps: of HMDC, over which its rate falls.
        published: ``"_published"`` for the published image rate of trajectory matching.
    """
    others = {
        "hmdc": f"method=hmdc {SMALL.format(steps=hmdc_steps)}",
        **{
            f"{m}{published}": f"{RIVALS[f'{m}{published}']} method.batch=100"
            for m in TRAJECTORY_METHODS
        },
    }
    few = {} if published else {"m3d_few": f"{BANK} method.batch_synthetic=50"}  # of 200 per class
    return Study(
        {**{name: RIVALS[name] for name in AT_IPC_50}, **others, **few},
        {50: f"{limit} engine.compile=false {FOUR.replace('=100', '=20')}"},
        datasets=(dataset,),
        pairs=tuple(
            (method, other)
            for method in ("m3d_bank", *few)
            for other in (*AT_IPC_50, *others)
            if other != method
        ),
        evaluation=f"pool=cpu {EVALUATION}",
    )


STUDIES = {
    "selection_dm_m3d": Study(
        {
            "random": "method=random",
            "random_decoded": "method=random method.factor=2",
            "herding": "method=herding method.rule.embedding.train_steps=100",
            "kmeans": "method=kmeans method.rule.embedding.train_steps=100",
            "dm": "method=dm method.steps=200 method.batch_real=128",
            "m3d_f1": "method=m3d method.steps=200 method.factor=1",
            "m3d": "method=m3d method.steps=200",
        },
        dict.fromkeys((1, 10), ""),
    ),
    "gradient_matching": Study(  # equal time
        {
            "dc": f"{FAMILY} method.levels=intra method.distance=rowwise_cosine method.inner=fixed",
            "degm_m": f"{FAMILY} method.distance=rowwise_cosine method.inner=fixed",
            "degm_md": f"{FAMILY} method.inner=fixed",
            "degm_mda": FAMILY,
            "dsa": "method=dsa",
            "idc": "method=idc",
            "dm": "method=dm",
            "m3d": "method=m3d",
        },
        {
            1: "max_seconds=25 method.batch_real=128 engine.compile=false",
            10: "max_seconds=60 method.batch_real=128 engine.compile=false",
        },
        pairs=(
            ("degm_m", "dc"),
            ("degm_md", "degm_m"),
            ("degm_mda", "degm_md"),
            ("degm_mda", "dc"),
        ),
    ),
    "rivals": Study(  # equal time, without that of networks that are trained once beforehand
        RIVALS,
        dict.fromkeys((1, 10), f"max_seconds=60 engine.compile=false {FOUR}"),
        datasets=("cifar10", "fashion_mnist"),
        pairs=tuple(("m3d_bank", other) for other in EQUAL_TIME)
        + tuple(("m3d_kmeans", other) for other in ("m3d_bank", "m3d", "idm", "ncfm", "hmdc")),
        evaluation=f"pool=cpu {EVALUATION}",
        steps={
            ("idm", "cifar10", 1): 39,
            ("idm", "cifar10", 10): 70,
            ("idm", "fashion_mnist", 1): 82,
            ("idm", "fashion_mnist", 10): 54,
            ("idm_published", "fashion_mnist", 1): 54,
            ("idm_published", "fashion_mnist", 10): 39,
        },
    ),
    # nearly as many updates of a network as at ipc 10
    "rivals_ipc50": rivals_at_50("cifar10", "max_seconds=600", hmdc_steps=40),
    "rivals_ipc50_fashion": rivals_at_50(
        "fashion_mnist",
        "max_seconds=180 engine.precision=float32",
        hmdc_steps=20,
        published="_published",
    ),
    "rivals_half_hour": Study(  # does trajectory matching catch up with M3D?
        {name: RIVALS[name] for name in ("m3d_bank", "mtt")},
        {10: f"max_seconds=1800 engine.compile=false {FOUR}"},
        datasets=("cifar10",),
        pairs=(("m3d_bank", "mtt"),),
    ),
    "own": Study(  # what was tried for a method better than those in rivals, on held-out images
        {
            "m3d_bank": BANK,
            "few": f"{BANK} method.batch_synthetic=10",  # of 40 synthetic images per class
            "kmeans": f"{BANK} init=aug_kmeans",
            "means": f"{BANK} method.kernel=linear",
            "resnet": f"{BANK} model=resnet_small",
            "vit": f"{BANK} model=vit_small",
            "ncfm_bank": f"method=ncfm {EXPERTS} "
            "method.experts.augment.ops=[color,crop,flip,scale,rotate] "  # the default then
            "method.lr=0.02 method.batch_real=128 method.targets=50",
        },
        {10: f"max_seconds=60 engine.compile=false {FOUR.replace('=100', '=40')}"},
        datasets=("cifar10",),
        common="experiment=cpu/table test_on=held_out",
        pairs=tuple((other, "m3d_bank") for other in TRIED),
    ),
    "targets": Study(  # how many real targets a bank should hold, on held-out images
        {
            f"targets_{number}": f"method=m3d method.batch_real=128 method.targets={number}"
            for number in (30, 100, 300, 1000, "null")
        },
        dict.fromkeys((1, 10), f"max_seconds=120 engine.compile=false {FOUR}"),
        datasets=("cifar10",),
        common="experiment=cpu/table test_on=held_out",
        pairs=tuple((f"targets_{number}", "targets_null") for number in (30, 100, 300, 1000)),
    ),
    "idm_rates": Study(  # why IDM fails on Fashion-MNIST at ipc 1, on held-out images
        {
            f"idm_{rate}": f"method=idm {QUEUE} method.lr={rate} method.batch_real=128"
            for rate in (0.2, 0.5, 1, 2)
        },
        {1: f"max_seconds=60 engine.compile=false {FOUR}"},
        datasets=("fashion_mnist",),
        common="experiment=cpu/table test_on=held_out",
        pairs=tuple((f"idm_{rate}", "idm_2") for rate in (0.2, 0.5, 1)),
    ),
    "trajectory_rates": Study(  # image rates of trajectory matching, on held-out images
        {
            f"{method}_{rate}": f"method={method} {TRAJECTORIES} {own} method.lr={rate} "
            "method.experts.count=2 method.experts.epochs=6"
            for method, own in TRAJECTORY_METHODS.items()
            for rate in (10, 100, 1000)
        },
        dict.fromkeys((1, 10), f"max_seconds=60 engine.compile=false {FOUR}"),
        datasets=("fashion_mnist",),
        common="experiment=cpu/table test_on=held_out",
        pairs=tuple(
            (f"{method}_{rate}", f"{method}_1000")
            for method in TRAJECTORY_METHODS
            for rate in (10, 100)
        ),
    ),
    "inner_epochs": Study(  # equal steps
        {
            f"degm_md_t{epochs}": f"{FAMILY} method.inner=fixed method.inner_epochs={epochs}"
            for epochs in (1, 10, 50)
        },
        {10: "method.steps=27 method.batch_real=128 engine.compile=false"},
        datasets=("fashion_mnist",),
        pairs=(("degm_md_t1", "degm_md_t50"), ("degm_md_t10", "degm_md_t50")),
    ),
    "precision": Study(  # float32 and mixed precision
        {"exact": "engine=exact", "mixed": "engine.precision=bfloat16 engine.compile=false"},
        {10: "method=dsa method.batch_real=128 method.steps=40 method.inner_epochs=5"},
        pairs=(("mixed", "exact"),),
        datasets=("cifar10",),
    ),
    "precision_features": Study(  # the same for methods that embed real images
        {
            f"{method}_{name}": f"method={method} {overrides}"
            for method in ("dm", "m3d")
            for name, overrides in (
                ("exact", "engine=exact"),
                ("mixed", "engine.precision=bfloat16 engine.compile=false"),
            )
        },
        {10: "method.batch_real=128 method.steps=30"},
        pairs=(("dm_mixed", "dm_exact"), ("m3d_mixed", "m3d_exact")),
        datasets=("cifar10",),
    ),
    "hmdc_digits": Study(  # and methods with one network
        {
            "dsa": "method=dsa method.steps=300",
            "idc": "method=idc method.factor=1 method.steps=300",
            "dm": "method=dm method.steps=500",
            "m3d": "method=m3d method.targets=null",
            **HMDC,
        },
        dict.fromkeys((1, 10), ""),
        datasets=("digits",),
        common=DIGITS,
        pairs=(
            ("hmdc_two", "hmdc_convnet"),
            ("hmdc", "hmdc_convnet"),
            ("hmdc", "hmdc_vit"),
            ("hmdc", "hmdc_two"),
            ("hmdc", "dsa"),
            ("hmdc", "idc"),
            ("hmdc", "dm"),
            ("hmdc", "m3d"),
        ),
    ),
    "hmdc_outer": Study(  # networks that are replaced less often
        {
            f"{name}_o{outer}": f"{HMDC[name]} method.steps_per_network={outer}"
            for outer in (20, 80)
            for name in ("hmdc_convnet", "hmdc_two", "hmdc")
        },
        {1: ""},
        datasets=("digits",),
        common=DIGITS,
        pairs=tuple(
            (f"{name}_o{outer}", f"hmdc_convnet_o{outer}")
            for outer in (20, 80)
            for name in ("hmdc_two", "hmdc")
        ),
    ),
    # four and sixteen times the steps
    "hmdc_steps": Study(
        {
            f"{name}_s{steps}": f"{HMDC[name]} method.steps={steps}"
            for steps in (320, 1280)
            for name in ("hmdc_convnet", "hmdc_two")
        },
        {1: ""},
        datasets=("digits",),
        common=DIGITS,
        pairs=tuple((f"hmdc_two_s{steps}", f"hmdc_convnet_s{steps}") for steps in (320, 1280)),
    ),
    "hmdc": compare_with_hmdc(1, dsa=260, idc=180, dm=700, m3d=650),
    "hmdc_ipc10": compare_with_hmdc(10, "evaluation.epochs=100", dsa=80, idc=165, dm=830, m3d=530),
    "hmdc_long": compare_with_hmdc(
        1, times=10, datasets=("cifar10",), dsa=260, idc=180, dm=700, m3d=650
    ),
    "hmdc_over_steps": Study(  # does a set of one network get worse with its steps?
        {
            "random_decoded": "method=random method.factor=2",
            "dsa": "method=dsa method.steps=5000 method.batch_real=128 method.targets=100",
            "idc": "method=idc method.steps=5000 method.batch_real=128",
            "hmdc_convnet": f"{HMDC['hmdc_convnet']} {PUBLISHED_RATE}",
            "hmdc": f"{HMDC['hmdc']} {PUBLISHED_RATE} {VIT_LEARNER}",
        },
        {1: f"engine.compile=false loop.evaluate_every=250 {PRETRAINED}"},
        datasets=("npz",),
        common="experiment=cpu/table +model@pool.networks.ViT=vit_small",
    ),
    # on pretrained networks, as in the paper
    "hmdc_pretrained": compare_with_hmdc(
        1,
        PRETRAINED,
        vit=VIT_LEARNER,
        datasets=("npz",),
        dsa=260,
        idc=180,
        dm=700,
        m3d=650,
    ),
}
