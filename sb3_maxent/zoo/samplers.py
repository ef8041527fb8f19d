"""
Search spaces for RL Zoo's ``--optimize``, in the form of ``rl_zoo3.hyperparams_opt``.

RL Zoo and Optuna are imported when a trial runs, not before: this module must be importable without them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

# The names that RL Zoo samples for HerReplayBuffer, and the prefix of ours for its other arguments
HER_PARAMS = ("n_sampled_goal", "goal_selection_strategy")
HER_PREFIX = "her_"


def convert_dspg_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Turn ``trial.params`` into arguments of DSPG.

    RL Zoo's ``--trial-id`` has nothing but ``trial.params``, so everything that an argument depends on is in there.

    :param sampled_params: ``trial.params`` of a trial of ``sample_dspg_params``
    :return: Arguments of DSPG
    """
    hyperparams = _convert_temperature(_convert_shared_params(sampled_params))
    hyperparams["gradient_steps"] *= hyperparams.pop("updates_per_step", 1)
    if hyperparams["policy_kwargs"]["action_layer"] == 0:
        # Each sample costs a whole network there
        hyperparams["n_action_samples"] = min(hyperparams["n_action_samples"], 16)
    return hyperparams


def sample_dspg_params(trial: "optuna.Trial", n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Sampler for DSPG hyperparams.

    What is returned is ``convert_dspg_params(trial.params)``, so that ``--trial-id`` trains with what the trial used.
    For that the target entropy of ``Box`` actions is sampled in nats and not per action dimension, which ``trial.params`` does
    not have. For discrete actions (0 dimensions), of which RL Zoo does not tell the number, it is a multiple of ``"auto"``.

    Every trial samples everything, also what its other values leave without effect: the sampler of RL Zoo models parameters
    together only if all trials have them in the same range.

    :param trial: The trial
    :param n_actions: Number of action dimensions, 0 for discrete actions
    :param n_envs: Number of environments
    :param additional_args: Whether HER is used, and the arguments of its buffer
    :return: Arguments of DSPG
    """
    trial.suggest_categorical("action_layer", [0, -1])
    # From 2**2=4 to 2**7=128
    trial.suggest_int("n_action_samples_pow", 2, 7)
    trial.suggest_int("updates_per_step", 1, 2)
    trial.suggest_categorical("norm_reward", [True, False])
    trial.suggest_float("max_grad_norm", 0.1, 10, log=True)
    trial.suggest_categorical("learn_ent_coef", [True, False])
    # The small ones for scaled rewards
    trial.suggest_float("ent_coef", 0.0001, 1, log=True)
    if n_actions > 0:
        # SAC's default is -n_actions
        trial.suggest_float("target_entropy", -2.0 * n_actions, 0.0)
    else:
        _sample_target_entropy_scale(trial)
    _sample_shared_params(trial, additional_args)
    return _display(trial, convert_dspg_params(trial.params))


def convert_softqlearning_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Turn ``trial.params`` into arguments of SoftQLearning.

    :param sampled_params: ``trial.params`` of a trial of ``sample_softqlearning_params``
    :return: Arguments of SoftQLearning
    """
    hyperparams = _convert_temperature(_convert_shared_params(sampled_params))
    # Together, which is the default of DSPG
    networks = hyperparams["policy_kwargs"]
    networks |= {"n_critics": hyperparams.pop("n_critics"), "unit_norm": networks["batch_norm"]}
    return hyperparams


def sample_softqlearning_params(
    trial: "optuna.Trial", n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """
    Sampler for SoftQLearning hyperparams. What is returned is ``convert_softqlearning_params(trial.params)``.

    :param trial: The trial
    :param n_actions: Number of action dimensions; 0 for discrete actions: no particles, and a temperature that may be learned
    :param n_envs: Number of environments
    :param additional_args: Whether HER is used, and the arguments of its buffer
    :return: Arguments of SoftQLearning
    """
    # The inverse of a reward scale: published ones reach from 0.1 to 300
    trial.suggest_float("ent_coef", 0.001, 10, log=True)
    if n_actions == 0:
        trial.suggest_categorical("learn_ent_coef", [True, False])
        _sample_target_entropy_scale(trial)
    else:
        # From 2**3=8 to 2**6=64
        trial.suggest_int("n_particles_pow", 3, 6)
        trial.suggest_int("n_value_samples_pow", 3, 6)
    # Which of them is right depends on the task: see docs/softqlearning.md
    trial.suggest_categorical("action_layer", [0, -1])
    trial.suggest_int("n_critics", 1, 2)
    _sample_shared_params(trial, additional_args)
    return _display(trial, convert_softqlearning_params(trial.params))


def _sample_target_entropy_scale(trial: "optuna.Trial") -> None:
    """
    Sample the target entropy of discrete actions, as a multiple of ``"auto"``.

    :param trial: The trial
    """
    # Those of 1 % to 44 % random actions, of four
    trial.suggest_float("target_entropy_scale", 0.25, 5, log=True)


def _convert_temperature(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    Turn whether the temperature is learned, and the multiple of ``"auto"``, into arguments. Drop what has no effect.

    :param hyperparams: Hyperparams, with these among them
    :return: Arguments of the algorithm
    """
    scale = hyperparams.pop("target_entropy_scale", None)
    if scale is not None:
        hyperparams["target_entropy"] = f"auto_{scale}"
    if hyperparams.pop("learn_ent_coef", False):
        hyperparams["ent_coef"] = "auto"
    else:
        hyperparams.pop("target_entropy", None)
    return hyperparams


def _sample_shared_params(trial: "optuna.Trial", additional_args: dict[str, Any]) -> None:
    """
    Sample what both algorithms have.

    :param trial: The trial
    :param additional_args: Whether HER is used, and the arguments of its buffer
    """
    using_her = additional_args["using_her_replay_buffer"]
    trial.suggest_float("one_minus_gamma", 0.0001, 0.03, log=True)
    # From 2**5=32 to 2**10=1024; the critic is evaluated this many times the number of action samples
    trial.suggest_int("batch_size_pow", 5, 10)
    trial.suggest_float("learning_rate", 1e-5, 0.002, log=True)
    trial.suggest_float("qf_learning_rate", 1e-5, 0.002, log=True)
    trial.suggest_categorical("batch_norm", [True, False])
    trial.suggest_int("policy_delay", 1, 3)
    # The zoo's converter makes gradient_steps equal to train_freq
    trial.suggest_int("train_freq", 1, 10)
    trial.suggest_float("tau", 0.001, 0.08, log=True)
    trial.suggest_categorical("net_arch", ["small", "medium", "big", *(["verybig"] if using_her else [])])
    if using_her:
        _sample_her_params(trial, additional_args["her_kwargs"])


def _convert_shared_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Convert as RL Zoo does, and besides the powers of two of our own and the arguments of HER.

    :param sampled_params: ``trial.params``
    :return: Arguments of the algorithm, but for what is its own
    """
    from rl_zoo3.hyperparams_opt import convert_offpolicy_params

    hyperparams = convert_offpolicy_params(sampled_params)
    for name in [name for name in hyperparams if name.startswith("n_") and name.endswith("_pow")]:
        hyperparams[name.removesuffix("_pow")] = 2 ** hyperparams.pop(name)
    # ``tau`` is for an update of the target networks after each update
    hyperparams["target_update_interval"] = 1
    # RL Zoo replaces the policy_kwargs of the hyperparameter file by these
    for name in ("action_layer", "batch_norm"):
        hyperparams["policy_kwargs"][name] = hyperparams.pop(name)
    return _gather_her_params(hyperparams)


def _display(trial: "optuna.Trial", hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    Let Optuna display true values beside the powers and logarithms that were sampled.

    :param trial: The trial
    :param hyperparams: Arguments of the algorithm
    :return: The same arguments
    """
    for name in ("gamma", "batch_size", "n_action_samples", "n_particles", "n_value_samples"):
        if name in hyperparams:
            trial.set_user_attr(name, hyperparams[name])
    return hyperparams


def _sample_her_params(trial: "optuna.Trial", her_kwargs: dict[str, Any]) -> None:
    """
    Sample RL Zoo's HER hyperparams, and keep the other arguments of the buffer in ``trial.params``.

    :param trial: The trial
    :param her_kwargs: ``replay_buffer_kwargs`` of the hyperparameter file
    """
    from rl_zoo3.hyperparams_opt import sample_her_params

    sample_her_params(trial, {}, her_kwargs)
    for name, value in her_kwargs.items():
        if name not in HER_PARAMS:
            # One choice only: not tuned, but stored
            trial.suggest_categorical(HER_PREFIX + name, [value])


def _gather_her_params(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    Move the arguments of HerReplayBuffer, if any, to ``replay_buffer_kwargs`` (RL Zoo's own converter forgets them).

    :param hyperparams: Hyperparams, with those of HER among them
    :return: Arguments of the algorithm
    """
    names = [name for name in hyperparams if name in HER_PARAMS or name.startswith(HER_PREFIX)]
    if names:
        hyperparams["replay_buffer_kwargs"] = {name.removeprefix(HER_PREFIX): hyperparams.pop(name) for name in names}
    return hyperparams
