"""Suggestions for flags that do not exist: those of other programs for the same things, and typing errors."""

from collections.abc import Collection

from efficientnet_tpu.errors import nearest

# Our flag -> what it is called elsewhere: in timm, torchvision, Keras, transformers, Lightning, YOLO and the reference.
_ELSEWHERE = {
    "train_epochs": "epochs num_epochs n_epochs max_epochs num_train_epochs nb_epochs epoch",
    "train_batch_size": "batch_size batch batchsize bs train_batch per_device_train_batch_size",
    "eval_batch_size": "val_batch_size valid_batch_size validation_batch_size test_batch_size "
    "per_device_eval_batch_size",
    "base_learning_rate": "lr learning_rate base_lr init_lr initial_lr initial_learning_rate lr0 max_lr",
    "learning_rate_schedule": "sched scheduler lr_scheduler lr_schedule lr_scheduler_type lr_decay_type lr_policy",
    "lr_warmup_epochs": "warmup warmup_epochs warmup_steps",
    "resolution": "image_size img_size imgsz input_size input_image_size im_size size image_width image_height",
    "init_from": "pretrained weights pretrained_weights finetune fine_tune initial_checkpoint init_checkpoint "
    "warm_start load load_from",
    "model": "arch architecture backbone model_name net network model_name_or_path",
    "model_dir": "resume resume_from save_dir save_path checkpoint_dir ckpt_dir log_dir logdir workdir work_dir "
    "run_dir exp_dir out project",
    "data_dir": "data data_path data_root dataset_dir dataset_path train_dir train_data_dir image_dir images_dir root "
    "imagefolder",
    "validation_percent": "val_split validation_split val_ratio test_size",
    "optimizer": "opt optim",
    "weight_decay": "wd l2",
    "momentum": "opt_momentum beta1",
    "moving_average_decay": "ema ema_decay model_ema model_ema_decay",
    "dropout_rate": "drop dropout drop_rate dropout_prob",
    "survival_prob": "drop_path drop_path_rate drop_connect drop_connect_rate stochastic_depth stochastic_depth_prob",
    "label_smoothing": "smoothing",
    "mixup_alpha": "mixup",
    "cutmix_alpha": "cutmix",
    "random_erasing": "reprob random_erase erasing",
    "augment": "aa auto_augment autoaugment augmentation augmentations randaugment aug augment_name",
    "horizontal_flip": "hflip flip",
    "precision": "amp fp16 bf16 half mixed_precision dtype use_bfloat16",
    "gradient_accumulation_steps": "grad_accum grad_accum_steps accum_steps accumulate accumulate_grad_batches "
    "gradient_accumulation",
    "gradient_clip_norm": "clip_grad clip_norm grad_clip max_grad_norm clipnorm gradient_clip_val clip_grad_norm",
    "early_stopping_patience": "patience early_stopping early_stop",
    "freeze": "freeze_backbone freeze_layers frozen trainable",
    "class_weights": "class_weight",
    "top_k": "topk k",
    "keep_checkpoints": "checkpoint_hist save_total_limit max_to_keep",
    "seed": "random_seed random_state",
    "stop_at_step": "max_steps train_steps steps iterations",
    "epochs_per_eval": "eval_interval val_interval eval_freq steps_per_eval",
    "export_format": "include",
    "saved_model": "model_path model_file",
    "eval_crop_padding": "crop_pct",
}
_NAMES = {name: flag for flag, names in _ELSEWHERE.items() for name in names.split()}


def suggested_flag(name: str, flags: Collection[str]) -> str:
    """' Did you mean --X?' for a name that is none of `flags`, or nothing."""
    known = _NAMES.get(name.lower().replace("-", "_"))
    if known in flags:
        return f" Did you mean --{known}?"
    return nearest(f"--{name}", [f"--{flag}" for flag in flags])
