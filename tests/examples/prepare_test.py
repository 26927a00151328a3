"""Tests of examples/quantize_llama/prepare, with Python's own library; those of the converters need the packages in requirements.txt."""
import math
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples/quantize_llama/prepare"))
import text_to_ids

try:
    import tokenizers
except ImportError:
    tokenizers = None
try:
    import gguf_to_hf
    import llama2c_to_hf
except ImportError:
    gguf_to_hf = llama2c_to_hf = None


class Documents(unittest.TestCase):
    def test_blank_lines_or_a_separator_end_a_document(self):
        self.assertEqual(text_to_ids.documents("one\ntwo\n\nthree\n\n\n\n", None), ["one\ntwo", "three"])
        self.assertEqual(text_to_ids.documents("a b<|x|> \n<|x|>\nc\n", "<|x|>"), ["a b", "c"])
        self.assertEqual(text_to_ids.documents("a\nb\n\nc", r"\n"), ["a", "b", "c"])

    def test_parts_share_no_document_and_leave_none_out(self):
        whole = text_to_ids.documents("\n".join(str(i % 31) for i in range(50)), r"\n")
        self.assertEqual(len(whole), 31)
        for cut in (0.1, 0.3, 0.5, 0.7, 0.99):
            first, rest = text_to_ids.share(whole, 0, cut), text_to_ids.share(whole, cut, 1)
            self.assertEqual(first + rest, whole)
            self.assertFalse(set(first) & set(rest))
            self.assertAlmostEqual(len(first) / 31, cut, delta=0.5 / 31 + 1e-9)


class Sequences(unittest.TestCase):
    def test_a_document_is_kept_whole_cut_off_or_cut_up(self):
        ids = list(range(7))
        self.assertEqual(text_to_ids.sequences(ids, None, False), [ids])
        self.assertEqual(text_to_ids.sequences(ids, 3, False), [[0, 1, 2]])
        self.assertEqual(text_to_ids.sequences(ids, 9, False), [ids])
        self.assertEqual(text_to_ids.sequences(ids, 3, True), [[0, 1, 2], [3, 4, 5], [6]])

    def test_the_file_is_little_endian_with_a_separator_before_each_sequence(self):
        self.assertEqual(text_to_ids.encode([[1, 0x1234], [0]], 2), bytes.fromhex("ffff 0100 3412 ffff 0000"))
        self.assertEqual(text_to_ids.encode([[0xFFFF]], 4), bytes.fromhex("ffffffff ffff0000"))

    def test_an_id_that_could_be_taken_for_the_separator_is_refused(self):
        self.assertEqual(text_to_ids.encode([[0xFFFE]], 2), bytes.fromhex("ffff feff"))
        with self.assertRaisesRegex(SystemExit, "65535 does not fit into 2 bytes"):
            text_to_ids.encode([[3, 0xFFFF]], 2)


@unittest.skipUnless(tokenizers, "needs the packages in requirements.txt")
class Ids(unittest.TestCase):
    def test_a_tokenizer_that_pads_and_cuts_off_gives_the_ids_of_the_text(self):
        words = {"[PAD]": 0, "a": 1, "b": 2, "c": 3, "<s>": 4}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[PAD]"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        for begin, template in (([], None), ([4], tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 4)]))):
            tokenizer.enable_padding(length=12, pad_id=0, pad_token="[PAD]")
            tokenizer.enable_truncation(max_length=2)
            if template:
                tokenizer.post_processor = template
            with tempfile.TemporaryDirectory() as name:
                folder = pathlib.Path(name)
                tokenizer.save(str(folder / "tokenizer.json"))
                (folder / "text.txt").write_text("a b c\n\nb a\n")
                arguments = ["text_to_ids", str(folder), str(folder / "text.txt"), str(folder / "out.u16")]
                with unittest.mock.patch("sys.argv", arguments), unittest.mock.patch("builtins.print"):
                    text_to_ids.main()
                expected = text_to_ids.encode([begin + [1, 2, 3], begin + [2, 1]], 2)
                self.assertEqual((folder / "out.u16").read_bytes(), expected)


@unittest.skipUnless(gguf_to_hf, "needs the packages in requirements.txt")
class RowOrder(unittest.TestCase):
    def test_rotating_halves_of_the_reordered_rows_is_rotating_neighbours_of_the_rows(self):
        import numpy as np

        heads, size, inputs = 3, 8, 5
        random = np.random.default_rng(1)
        weight, x = random.normal(size=(heads * size, inputs)), random.normal(size=inputs)
        halves = (gguf_to_hf.rotate_half_order(weight, heads) @ x).reshape(heads, size)
        neighbours = (weight @ x).reshape(heads, size)
        for head in range(heads):
            for i in range(size // 2):
                cos, sin = math.cos(0.3**i), math.sin(0.3**i)
                a, b = neighbours[head, 2 * i], neighbours[head, 2 * i + 1]
                c, d = halves[head, i], halves[head, i + size // 2]
                self.assertAlmostEqual(a * cos - b * sin, c * cos - d * sin)
                self.assertAlmostEqual(b * cos + a * sin, d * cos + c * sin)

    def test_a_number_in_float32_is_written_as_it_was_meant(self):
        self.assertEqual(gguf_to_hf.shortest(9.999999747378752e-06), 1e-05)


@unittest.skipUnless(llama2c_to_hf, "needs the packages in requirements.txt")
class Llama2c(unittest.TestCase):
    hidden, intermediate, layers, heads, key_heads, vocabulary, context = 8, 12, 2, 2, 1, 5, 6

    def config(self, vocabulary):
        sizes = self.hidden, self.intermediate, self.layers, self.heads, self.key_heads, vocabulary, self.context
        return llama2c_to_hf.read_config(llama2c_to_hf.HEADER.pack(*sizes))

    def numbers(self, own_head):
        import numpy as np

        rows = self.layers * (2 + 2 * self.hidden + 2 * self.key_heads * 4 + 3 * self.intermediate) + 1 + (1 + own_head) * self.vocabulary
        return np.arange(rows * self.hidden + self.context * 4, dtype=np.float32)

    def test_every_number_has_its_place(self):
        import numpy as np

        for own_head in (False, True):
            config, values = self.config(-self.vocabulary if own_head else self.vocabulary), self.numbers(own_head)
            self.assertEqual(config["tie_word_embeddings"], not own_head)
            tensors = llama2c_to_hf.read_tensors(config, values)
            self.assertEqual("lm_head.weight" in tensors, own_head)
            everything = np.concatenate([tensor.ravel() for tensor in tensors.values()])
            self.assertEqual(len(np.unique(everything)), len(everything))  # none twice
            self.assertEqual(len(everything), len(values) - self.context * 4)  # and none left out but the angles
            self.assertEqual(tensors["model.embed_tokens.weight"][0, 1], 1)
            self.assertEqual(tensors["model.layers.1.mlp.down_proj.weight"].shape, (self.hidden, self.intermediate))
            first = self.vocabulary * self.hidden + self.layers * self.hidden  # number of q
            q = tensors["model.layers.0.self_attn.q_proj.weight"]
            self.assertEqual([row[0] - first for row in q], [self.hidden * row for row in (0, 2, 1, 3, 4, 6, 5, 7)])

    def test_a_file_of_another_length_is_refused(self):
        import numpy as np

        values = self.numbers(False)
        for wrong in (values[:-1], values[:20], np.append(values, values[:1])):
            with self.assertRaises(SystemExit):
                llama2c_to_hf.read_tensors(self.config(self.vocabulary), wrong)


if __name__ == "__main__":
    unittest.main()
