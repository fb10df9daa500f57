"""Every mistake a user can make on the command line ends in one sentence that says what to write instead."""

from pathlib import Path

import pytest

from securegan.configuration.compose import compose_checked
from securegan.configuration.overrides import MOST_JOBS
from securegan.configuration.resolvers import folder_name, random_hex
from securegan.configuration.schema import OPTIONS
from securegan.errors import ConfigError

MISTAKES = [
    # options
    ("attack=pdg", "attack=pdg is not allowed", "fgsm", "Did you mean 'pgd'?"),
    ("attack=", "attack= is not allowed", "fgsm"),
    ("attack=null", "attack=null is not allowed", "fgsm"),
    ("attack=3", "attack=3 is not allowed", "fgsm"),
    ("data=none", "data=none is not allowed", "digits"),
    ("logger=[wandb,csvv]", "logger=[wandb,csvv] is not allowed", "logger=[a,b]", "Did you mean 'csv'?"),
    ("experiment=debgu", "experiment=debgu is not allowed", "Did you mean 'debug'?"),
    ("attack=[fgsm,pgd]", "attack=[fgsm,pgd] is not allowed", "one attack", "-m"),
    ("defense=[]", "defense=[] is not allowed", "none"),
    ("defense=[none,gradient_penalty]", "defense=[none,gradient_penalty] is not allowed"),
    ("logger=[csv,csv]", "logger=[csv,csv] is not allowed", "at most once"),
    ("hydra/launcher=bsic", "hydra/launcher=bsic is not allowed", "Did you mean 'basic'?"),
    # keys
    ("atack=pgd", "atack is not a setting", "Did you mean 'attack'?"),
    ("sed=1", "sed is not a setting", "Did you mean 'seed'?"),
    ("attack.epz=1", "attack.epz is not a setting", "Did you mean 'eps'?"),
    ("restarts=3", "restarts is not a setting of its own", "Did you mean 'attack.restarts'?"),
    ("attack.eps.more=1", "attack.eps.more is not a setting", "attack.eps is a single value"),
    ("attack.default_eps=1", "attack.default_eps is not a setting"),
    ("+attack.foo=1", "attack.foo is not a setting"),
    ("++attack.foo=1", "attack.foo is not a setting"),
    ("+foo=1", "foo is not a setting"),
    ("+attack.eps=0.1", "+attack.eps=0.1 is not allowed", "without the +"),
    ("+experiment=debug", "+experiment=debug is not allowed", "without the +"),
    ("~attack", "~attack is not allowed"),
    ("~attack.eps", "~attack.eps is not allowed", "attack.eps=..."),
    ("attack@other=pgd", "attack@other=pgd is not allowed"),
    ("attack=none attack.eps=1", "attack.eps is not a setting", "attack=none"),
    ("defense.gradient_penalty.weight=1", "add defense=[adversarial_training,gradient_penalty]"),
    ("security.foo=1", "security.foo is not a setting", "security=none"),
    ("attack._target_=os.system", "attack._target_=os.system is not allowed"),
    ("+attack._target_=os.system", "+attack._target_=os.system is not allowed"),
    ("+data.nested._target_=os.system", "is not allowed"),
    ("hydra.foo=1", "hydra.foo"),
    # values
    ("attack.eps=-1", "attack.eps=-1 is not allowed", "greater than or equal to 0 (or a fraction such as 8/255)"),
    ("attack.eps=8/0", "attack.eps=8/0 is not allowed"),
    ("attack.norm=lnf", "attack.norm=lnf is not allowed", "Did you mean 'linf'?"),
    ("attack.steps=ten", "attack.steps=ten is not allowed", "a whole number"),
    ("attack.random_start=maybe", "attack.random_start=maybe is not allowed", "true or false"),
    ("attack.objectives=ce", "attack.objectives=ce is not allowed", "Did you mean [ce]?"),
    ("model.lr_generator=0", "model.lr_generator=0 is not allowed", "greater than 0"),
    ("trainer.devices=true", "trainer.devices=true is not allowed", "a whole number"),
    ("seed=-1", "seed=-1 is not allowed", "greater than or equal to 0"),
    ("seed=1.5", "seed=1.5 is not allowed"),
    ("seed=[1,2]", "seed=[1,2] is not allowed"),
    ("cache_dir=null", "cache_dir=null is not allowed", "text"),
    ("attack.eps=${nowhere}", "nowhere"),
    # grammar and flags
    ("attack", "'attack' cannot be read", "key=value"),
    ("model=[gan", "'model=[gan' cannot be read"),
    ("seed=1 -m attack=pgd", "attack=pgd cannot stand there", "before or after"),
    ("--sweep", "--sweep cannot stand there"),
    ("--config-name=other", "other"),
    ("--config-path=/tmp", "--config-path is not allowed", "--config-dir"),
    ("--config-dir=/no/such/folder", "/no/such/folder is not allowed"),
    ("--experimental-rerun=x.pickle", "--experimental-rerun is not allowed", "ckpt="),
    # sweeps
    ("attack=fgsm,pgd", "attack=fgsm,pgd asks for several runs", "add -m"),
    ("seed=1,2", "seed=1,2 asks for several runs", "add -m"),
    ("seed=range(0,3)", "seed=range(0,3) asks for several runs", "add -m"),
    ("defense=adversarial_training,gradient_penalty", "add -m", "defense=[adversarial_training,gradient_penalty]"),
    ("-m seed=1,x", "seed=x is not allowed"),
    ("-m attack=pgd,fgms", "attack=fgms is not allowed", "Did you mean 'fgsm'?"),
    ("-m attack=pgd,fgsm attack.steps=3", "attack.steps is not a setting"),
    ("-m model.beta1=interval(0,1)", "model.beta1=interval(0,1) cannot be swept"),
    (f"-m seed=range(0,{MOST_JOBS + 1})", f"more than {MOST_JOBS} jobs"),
    ("-m hydra.job.name=a,b", "hydra.job.name=a,b is not allowed"),
    ("-m trainer=ddp seed=1,2", "trainer.devices=2", "shell loop"),
    ("-m trainer.devices=1,2", "trainer.devices=2", "shell loop"),
    ("hydra.mode=MULTIRUN trainer.devices=2", "trainer.devices=2", "shell loop"),
    # resuming
    ("ckpt=runs/a seed=1", "seed=1 cannot stand beside ckpt=", "its own configuration"),
    ("attack=fgsm ckpt=runs/a", "attack=fgsm cannot stand beside ckpt="),
]


@pytest.mark.parametrize(
    ("line", *("words",)), [(line, words) for line, *words in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_mistake_is_one_sentence(line: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_checked(line.split())
    said = str(caught.value)
    for word in words:
        assert word in said
    assert "\n" not in said


@pytest.mark.parametrize("flag", ["--help", "-h", "--hydra-help", "--info"])
def test_flags_that_only_print_compose_nothing(flag: str) -> None:
    assert compose_checked([flag]) == []


def test_overrides_arrive() -> None:
    (cfg,) = compose_checked(["attack=fgsm", "attack.eps=8/255", "seed=3", "name=a", "hydra.run.dir=/tmp/somewhere"])
    assert (cfg.attack.eps, cfg.seed, cfg.name) == ("8/255", 3, "a")
    assert "hydra" not in cfg


def test_every_combination_of_a_sweep_in_hydras_order() -> None:
    jobs = compose_checked(["-m", "attack=fgsm,pgd", "seed=1,2"])
    assert [(job.attack["_target_"].rpartition(".")[2], job.seed) for job in jobs] == [
        ("FGSM", 1),
        ("FGSM", 2),
        ("PGD", 1),
        ("PGD", 2),
    ]


def test_a_glob_sweeps_the_options() -> None:
    assert len(compose_checked(["-m", "attack=glob(*,exclude=none)"])) == len(OPTIONS["attack"])


def test_a_sweep_written_in_an_experiment_is_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "seeds.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: 4,5\n"
    )
    jobs = compose_checked(["--config-dir", str(tmp_path), "experiment=seeds"])
    assert [job.seed for job in jobs] == [4, 5]


def test_resuming_takes_hydras_own_settings() -> None:
    (cfg,) = compose_checked(["ckpt=runs/a", "hydra.run.dir=runs/a"])
    assert cfg.ckpt == "runs/a"


def test_a_users_folder_adds_options(tmp_path: Path) -> None:
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "quick.yaml").write_text("defaults:\n  - pgd\n  - _self_\nsteps: 2\n")
    (cfg,) = compose_checked(["--config-dir", str(tmp_path), "attack=quick"])
    assert cfg.attack.steps == 2
    assert cfg.attack["_target_"].endswith(".PGD")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("_target_: os.system\ncommand: echo\n", "_target_=os.system is not allowed"),
        ("defaults:\n  - pgd\n  - _self_\nstepz: 2\n", "Did you mean 'steps'?"),
        ("defaults:\n  - pgd\n  - _self_\nsteps: 0\n", "attack.steps=0 is not allowed"),
        ("steps: 2\n", "attack"),
        ("[1, 2]\n", "attack"),
        ("steps: [\n", "cannot be composed"),
    ],
)
def test_a_users_file_is_checked_like_the_command_line(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        compose_checked(["--config-dir", str(tmp_path), "attack=mine"])
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECUREGAN_CACHE", "/somewhere/else")
    assert compose_checked([])[0].cache_dir == "/somewhere/else"
    monkeypatch.delenv("SECUREGAN_CACHE")
    assert compose_checked([])[0].cache_dir == "~/.cache/securegan"


def test_folder_names_are_short_and_flat() -> None:
    name = folder_name("attack.eps=8/255," + "x" * 200)
    assert name.startswith("attack.eps-8-255-x")
    assert len(name) <= 80
    assert {len(random_hex()) for _ in range(8)} == {4}
    assert len({random_hex() for _ in range(8)}) > 1
