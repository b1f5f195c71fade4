"""What the studies compare: the words of every method on the command line. ``study.py`` runs them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Study:
    """What is compared: for every method its words on the command line, for every ipc the words of all methods."""

    methods: dict[str, str]
    words: dict[int, str]
    datasets: tuple[str, ...] = ("fashion_mnist", "cifar10")
    common: str = "experiment=cpu/table"
    pairs: tuple[tuple[str, str], ...] = ()  # claims: the first of two is better


HMDC = {  # what HMDC is without its parts
    "hmdc_convnet": "method=hmdc ~learners.networks.ViT",
    "hmdc_vit": "method=hmdc ~learners.networks.ConvNet",
    "hmdc_two": "method=hmdc method.gbm=false method.distillation=none",
    "hmdc_gbm": "method=hmdc method.distillation=none",
    "hmdc_md": "method=hmdc method.gbm=false",
    "hmdc": "method=hmdc",
}
SMALL = (  # two small networks and short runs
    "pool@learners=convnet_vit_small method.steps={steps} method.steps_per_network=4 method.inner_steps=4 method.lr=0.1 "
    "method.schedule=linear method.real_selection=random method.batch_real=64 method.batch_train=64"
)
DIGITS = "threads=1 baselines=false tensorboard=false"
FAMILY = "method=degm init=real"  # the noise of the published runs wants thousands of steps
# Networks of scripts/pretrain.py. The ConvNet starts from scratch, as the paper's does.
PRETRAINED = "dataset.path=outputs/pretrained/cifar5.npz dataset.flip=true " + " ".join(
    f"pool.networks.{name}.weights=outputs/pretrained/{name}.pt"
    for name in ("MLP", "ResNet", "ViT")
)


def beside_hmdc(
    ipc: int,
    beyond: str = "",
    *,
    vit: str = "",
    times: int = 1,
    datasets: tuple[str, ...] = Study.datasets,
    **steps: int,
) -> Study:
    """Return HMDC and its parts beside others, with the steps these make in the time HMDC takes with two networks.

    ``beyond`` are more words for all, ``vit`` for those that condense with a ViT. ``times``
    multiplies all steps.
    """
    small = SMALL.format(steps=60 * times)
    own = {
        name: f"{words} {small} {'' if name == 'hmdc_convnet' else vit}"
        for name, words in HMDC.items()
    }
    longer = SMALL.format(
        steps=180 * times
    )  # a step with the ConvNet alone takes a third of HMDC's time
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
        {ipc: f"engine.compile=false {beyond}"},
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
    "gradient_matching": Study(  # at equal time
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
    "inner_epochs": Study(  # at equal steps
        {
            f"degm_md_t{epochs}": f"{FAMILY} method.inner=fixed method.inner_epochs={epochs}"
            for epochs in (1, 10, 50)
        },
        {10: "method.steps=27 method.batch_real=128 engine.compile=false"},
        datasets=("fashion_mnist",),
        pairs=(("degm_md_t1", "degm_md_t50"), ("degm_md_t10", "degm_md_t50")),
    ),
    "precision": Study(  # the same run in float32 and in the default mixed mode
        {"exact": "engine=exact", "mixed": "engine.precision=bfloat16 engine.compile=false"},
        {10: "method=dsa method.batch_real=128 method.steps=40 method.inner_epochs=5"},
        pairs=(("mixed", "exact"),),
        datasets=("cifar10",),
    ),
    "precision_features": Study(  # the same for what embeds real images
        {
            f"{method}_{name}": f"method={method} {words}"
            for method in ("dm", "m3d")
            for name, words in (
                ("exact", "engine=exact"),
                ("mixed", "engine.precision=bfloat16 engine.compile=false"),
            )
        },
        {10: "method.batch_real=128 method.steps=30"},
        pairs=(("dm_mixed", "dm_exact"), ("m3d_mixed", "m3d_exact")),
        datasets=("cifar10",),
    ),
    "hmdc_digits": Study(  # beside methods with one network
        {
            "dsa": "method=dsa method.steps=300",
            "idc": "method=idc method.factor=1 method.steps=300",
            "dm": "method=dm method.steps=500",
            "m3d": "method=m3d",
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
    "hmdc_outer": Study(  # networks that learn for longer before new ones come
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
    # four and sixteen times the steps: what one network's set loses, and two networks' keeps
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
    "hmdc": beside_hmdc(1, dsa=260, idc=180, dm=700, m3d=650),
    "hmdc_ipc10": beside_hmdc(10, "evaluation.epochs=100", dsa=80, idc=165, dm=830, m3d=530),
    "hmdc_long": beside_hmdc(1, times=10, datasets=("cifar10",), dsa=260, idc=180, dm=700, m3d=650),
    # on networks that know other images already, as the paper's are
    "hmdc_pretrained": beside_hmdc(
        1,
        PRETRAINED,
        vit="learners.networks.ViT.weights=outputs/pretrained/ViT_learner.pt",
        datasets=("npz",),
        dsa=260,
        idc=180,
        dm=700,
        m3d=650,
    ),
}
