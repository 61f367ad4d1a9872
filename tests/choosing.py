"""The log-likelihood of an answer, from its definition."""

import torch


def likelihood(model, prompt, answer, start=None):
    """Of an answer's tokens after those of a prompt, or of a decoder's start: alone, in float64."""
    with torch.no_grad():
        if start is None:
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        else:
            fed = torch.tensor([[start, *answer[:-1]]])
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=fed).logits[0]
    each = logits.double().log_softmax(-1)
    return sum(float(each[place, token]) for place, token in enumerate(answer))


def likeliest(sums):
    """The place of the first of the largest numbers."""
    return sums.index(max(sums))
