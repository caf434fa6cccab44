"""Compare word vectors: gensim's word2vec, a BERT's one vector for each word, vectors in context.

    uv run examples/word_vectors.py --model runs/mine/model --corpus texts.txt \
        --train train.tsv --test test.tsv --text-column sentence

Two questions. Classification: how well does logistic regression do on the mean of a text's word
vectors? Word senses: is a use of "set" or "present" nearest to another one of the same sense? Here
vectors without context must guess, since every use of a word has the same one; each kind is
therefore also shown with the mean of the surrounding words. Word2vec and the static vectors learn
from the same corpus.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gensim.models import KeyedVectors, Word2Vec
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tokenizers import Tokenizer

from bert_scratch import BertModel, embed, load_tokenizer, static_word_vectors
from bert_scratch.config import InputError
from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.inference.labelled_files import read_labelled_file
from bert_scratch.inference.pooling import group_pieces, unit_length
from bert_scratch.inference.texts import read_texts

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]

# Two senses each: a verb or an adjective first, a noun second.
SENSES = {
    "set": (
        [
            "You must set the value before you call the function.",
            "Please set this option to false.",
            "It will set the name of the file.",
            "They set a limit on the number of lines.",
            "We set the flag when the test begins.",
            "Do not set the size by hand.",
        ],
        [
            "A set has no order and no duplicates.",
            "The set of all words is returned.",
            "Return a new set with the elements of both.",
            "Each item of the set is a string.",
            "Add an element to the set.",
            "The union with another set is empty.",
        ],
    ),
    "present": (
        [
            "The key must be present in the dictionary.",
            "If no value is present, an error is raised.",
            "The file is not present on this system.",
            "All of these names are present in the module.",
            "A header may be present in the message.",
            "Nothing is done when it is already present.",
        ],
        [
            "She gave him a present for his birthday.",
            "The present was wrapped in red paper.",
            "He bought a present for the children.",
            "Every child opened a present.",
            "It was the nicest present of all.",
            "Thank you for the lovely present.",
        ],
    ),
}


def main() -> None:
    """Make the three kinds of vectors and print both tables."""
    options = parse_arguments()
    model = BertModel.from_pretrained(options.model, new_head=True).eval()
    tokenizer = load_tokenizer(options.model)
    corpus = list(filter(None, read_texts(options.corpus, flag="--corpus")))
    sentences = [words_of(tokenizer, text) for text in corpus]
    kinds = {
        "word2vec (gensim)": word2vec(sentences, model.config.hidden_size),
        "static, from BERT": static(model, tokenizer, corpus),
    }
    tables: dict[str, Embed] = {
        name: mean_of_words(tokenizer, vectors) for name, vectors in kinds.items()
    }
    tables["in context, BERT"] = lambda texts: np.asarray(embed(model, tokenizer, texts))
    if options.train is not None and options.test is not None:
        print("Accuracy of logistic regression on one vector per text")
        for name, embed_texts in tables.items():
            print(f"  {name:20} {accuracy(options, embed_texts):.3f}")
    print("Word senses: a use's nearest other use has the same sense (chance 0.45)")
    for word in SENSES:
        print(f"  {word}")
        for name, embed_texts in tables.items():
            if name in kinds:
                print(f"    {name + ', context':28} {sense_accuracy(word, embed_texts):.2f}")
        in_context = lambda texts, word=word: uses_of(word, model, tokenizer, texts)  # noqa: E731
        print(f"    {'in context, BERT':28} {sense_accuracy(word, in_context):.2f}")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a model folder")
    parser.add_argument("--corpus", required=True, help="texts, one per line")
    parser.add_argument("--train", help="labelled .tsv, .csv or .jsonl")
    parser.add_argument("--test", help="likewise")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="label")
    return parser.parse_args()


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the words as the tokenizer splits and normalises them."""
    (encoding,) = encode_with_offsets(tokenizer, [text])
    _, spans = group_pieces(encoding.word_ids, encoding.offsets)
    words = [text[start:end] for start, end in spans]
    return [tokenizer.normalizer.normalize_str(word).strip() for word in words]


def word2vec(sentences: Sequence[list[str]], size: int) -> KeyedVectors:
    """Train gensim's word2vec, with one worker so that the seed decides everything."""
    model = Word2Vec(sentences, vector_size=size, sg=1, min_count=2, epochs=5, seed=1, workers=1)
    return model.wv


def static(model: BertModel, tokenizer: Tokenizer, corpus: Sequence[str]) -> KeyedVectors:
    """Average each word's contexts, by way of the file format that other programs read."""
    found = static_word_vectors(model, tokenizer, lambda: corpus, min_count=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.txt"
        found.save(path)
        return KeyedVectors.load_word2vec_format(str(path))


def mean_of_words(tokenizer: Tokenizer, vectors: KeyedVectors) -> Embed:
    """Return a function from texts to the mean vector of their words, zeros if none is known."""

    def embed_texts(texts: Sequence[str]) -> Vectors:
        known = [[w for w in words_of(tokenizer, text) if w in vectors] for text in texts]
        zero = np.zeros(vectors.vector_size, np.float32)
        return np.stack([np.mean(vectors[words], axis=0) if words else zero for words in known])

    return embed_texts


def uses_of(word: str, model: BertModel, tokenizer: Tokenizer, texts: Sequence[str]) -> Vectors:
    """Return the vector that a word has in each text."""
    vectors = embed(model, tokenizer, texts, unit="word")
    places = [words_of(tokenizer, text).index(word) for text in texts]
    return np.stack([own[place] for own, place in zip(vectors, places, strict=True)])


def accuracy(options: argparse.Namespace, embed_texts: Embed) -> float:
    """Return the accuracy on --test after fitting on --train."""
    parts = []
    for path in (options.train, options.test):
        rows = [record.cells for record in read_labelled_file(path, options.text_column).records]
        texts = [row[options.text_column] for row in rows]
        parts.append((embed_texts(texts), [row[options.label_column] for row in rows]))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return float(classifier.fit(*parts[0]).score(*parts[1]))


def sense_accuracy(word: str, embed_texts: Embed) -> float:
    """Return how often the nearest other use of a word, by cosine, has the same sense."""
    first, second = SENSES[word]
    vectors = embed_texts([*first, *second])
    vectors = unit_length(vectors)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    senses = np.array([0] * len(first) + [1] * len(second))
    return float((senses[cosines.argmax(axis=1)] == senses).mean())


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
