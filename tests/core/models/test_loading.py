import pytest

from stages.core.errors import UserError
from stages.core.models.base_models import ModelFiles, get_base_model
from stages.core.models.loading import get_model, get_tokenizer
from tests.architectures import LINEAR, SMALL


def test_a_local_folder_is_a_model_with_a_hash(config, base):
    found = get_base_model(config("model=hub", f"model.source.id={base.path}").model, seed=1)
    assert found.path == base.path and found.sha256 and found.revision is None
    assert get_model(found, "float32").config.hidden_size == 32


def test_a_model_that_is_not_there_is_one_message(config):
    with pytest.raises(UserError, match=r"model\.source\.id 'nobody/nothing'"):
        get_base_model(config("model=hub", "model.source.id=nobody/nothing").model, seed=1)


def test_a_tokenizer_without_a_chat_template_is_refused(base, tmp_path):
    import shutil
    from dataclasses import replace

    shutil.copytree(base.path, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        get_tokenizer(replace(base, path=str(tmp_path / "model")))


def test_a_random_model_is_made_from_the_seed(config):
    model = config().model
    assert get_base_model(model, 1).sha256 != get_base_model(model, 2).sha256


@pytest.mark.parametrize(
    ("kind", "name"), [("MOSTLY_Q4_1", "Q4_1"), ("MOSTLY_F16", None), ("ALL_F32", None)]
)
def test_a_gguf_file_says_to_what_its_weights_were_quantized(tmp_path, kind, name):
    from gguf import GGUFWriter, LlamaFileType

    from stages.core.models.made_models import get_file_type

    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_file_type(LlamaFileType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert get_file_type(tmp_path / "model.gguf") == name


def test_a_random_model_was_never_quantized(base):
    assert base.quantization is None


def test_weights_in_a_pickle_are_refused_in_one_message(base, tmp_path):
    import torch

    get_model(base, "float32").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"model\.safetensors(.|\n)*Only safetensors are loaded"):
        get_model(ModelFiles(str(tmp_path), None, None), "float32")


def test_a_language_model_without_some_of_its_weights_is_refused(base, tmp_path):
    from transformers import AutoModel

    AutoModel.from_pretrained(base.path).save_pretrained(tmp_path)  # without the head
    with pytest.raises(UserError, match=r"such as lm_head\.weight, which is missing"):
        get_model(ModelFiles(str(tmp_path), None, None), "float32")


def test_the_language_model_of_a_model_with_eyes_is_loaded_alone(tmp_path):
    import torch
    from transformers import AutoConfig, Qwen3_5ForConditionalGeneration

    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2}
    sight = {"out_hidden_size": 32, "patch_size": 4, "num_position_embeddings": 16}
    config = AutoConfig.for_model(
        "qwen3_5", text_config=SMALL | LINEAR, vision_config=vision | sight
    )
    whole = Qwen3_5ForConditionalGeneration(config)
    whole.save_pretrained(tmp_path)
    model = get_model(ModelFiles(str(tmp_path), None, None), "float32")
    ids = torch.arange(9)[None]
    assert type(model).__name__ == "Qwen3_5ForCausalLM"
    torch.testing.assert_close(model(ids).logits, whole.eval()(ids).logits)
