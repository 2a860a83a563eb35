import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from common import files
from common.errors import UserError
from preflight import preview
from tests.support.disk import full_disk
from tests.support.folders import FOREIGN, NOT_OURS, content

MNIST = "gin_configs/runs/mnist_cpu.gin"
IMAGENET = "models/efficientnet_x_b0.gin", "runs/imagenet.gin"


@pytest.mark.long
def test_the_command_writes_a_sheet(greys, tmp_path, capsys):
    output = tmp_path / "sheet.png"
    command = [f"--gin_file={MNIST}", f"--data_dir={greys}", f"--output={output}"]
    assert preview.main([*command, "--images=1", "--seed=7"]) == 0
    assert capsys.readouterr().out == f"wrote {output}, 1 image\n"
    with Image.open(output) as sheet:
        assert (sheet.format, sheet.mode, sheet.width) == ("PNG", "RGB", 1600)
        pixels = np.asarray(sheet).astype(int)
    # The middles of both pictures, one of which is of the other.
    original, cropped = pixels[300, 150], pixels[300, 394]
    np.testing.assert_allclose(original, cropped, atol=1)
    assert min(original % 6) in (0, 1, 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output=none/sheet.png"], "there is no folder none for --output"),
        (
            [f"--gin_file=gin_configs/{name}" for name in IMAGENET],
            "Experiment.data_dir; set each",
        ),
        ([f"--gin_file={MNIST}", "--data_dir=none"], "there is no data folder none"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, tmp_path, capsys):
    assert preview.main([f"--output={tmp_path}/sheet.png", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--output=sheet.jpg", "sheet.jpg is no .png; name it so"),
        ("--output=", "it is empty: name a file or folder"),
        ("--gin_file=none.gin", "there is no gin file none.gin; those of the project"),
        ("--images=0", "choose 1 to 256, not 0"),
        ("--images=257", "choose 1 to 256, not 257"),
    ],
)
def test_a_wrong_flag(flag, said, capsys):
    with pytest.raises(SystemExit) as ended:
        preview.main(["--output=sheet.png", flag])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("make", "said"), FOREIGN)
def test_what_is_not_a_sheet_stays(tmp_path, capsys, make, said):
    """Before the data are asked for, and where it comes while the sheet is drawn."""
    preview._write(Image.new("RGB", (1, 1)), str(tmp_path / "mine"))
    path = tmp_path / "sheet.png"
    make(path)
    before = content(tmp_path)
    command = [f"--gin_file={MNIST}", "--data_dir=none", f"--output={path}"]
    assert preview.main(command) == 2
    assert capsys.readouterr() == ("", f"error: {path} {said}\n")
    with pytest.raises(UserError) as refused:
        preview._write(Image.new("RGB", (1, 1)), str(path))
    assert str(refused.value) == f"{path} {said}"
    assert content(tmp_path) == before


def drawn_on(path):
    """By a tool that keeps the texts of a picture."""
    preview._write(Image.new("RGB", (1, 1)), str(path))
    with Image.open(path) as image:
        info = PngInfo()
        info.add_text("Software", image.info["Software"])
        image.putpixel((0, 0), (9, 9, 9))
        image.save(path, pnginfo=info)


def of_another_command(path):
    Image.new("RGB", (1, 1)).save(path)
    path.write_bytes(files.marked_png(path.read_bytes(), "performance.roofline"))


def cut_off(path):
    preview._write(Image.new("RGB", (1, 1)), str(path))
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "make", [Image.new("RGB", (1, 1)).save, drawn_on, of_another_command, cut_off]
)
def test_a_picture_of_somebodys_stays(tmp_path, make, capsys):
    path = tmp_path / "photo.png"
    make(path)
    before = content(tmp_path)
    command = [f"--gin_file={MNIST}", "--data_dir=none", f"--output={path}"]
    assert preview.main(command) == 2
    assert capsys.readouterr() == ("", f"error: {path} {NOT_OURS}\n")
    with pytest.raises(UserError, match=f"photo.png {NOT_OURS}"):
        preview._write(Image.new("RGB", (1, 1)), str(path))
    assert content(tmp_path) == before


def test_a_sheet_replaces_one_of_before_unless_the_disk_is_full(tmp_path):
    path = tmp_path / "sheet.png"
    for side in (1, 2):
        preview._write(Image.new("RGB", (side, 1)), str(path))
    before = content(tmp_path)
    with full_disk(), pytest.raises(UserError, match=r"cannot write .*name another --"):
        preview._write(Image.effect_noise((99, 99), 50), str(path))
    assert content(tmp_path) == before
    with Image.open(path) as sheet:
        assert sheet.width == 2


def test_a_sheet_that_is_half_written_does_not_take_the_name(tmp_path):
    path = tmp_path / "sheet.png"
    preview._write(Image.new("RGB", (1, 1)), str(path))
    before = content(tmp_path)
    with full_disk(1000), pytest.raises(UserError, match=r": File too large; free "):
        preview._write(Image.effect_noise((99, 99), 50), str(path))
    assert content(tmp_path) == before
