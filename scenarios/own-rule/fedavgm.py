"""FedAvgM (Hsu et al. 2019): the server moves along a momentum of the clients' mean change."""


def aggregate(server, updates, weights, ranks, staleness, state, beta=0.9):
    momentum, model = {}, {}
    for name, matrix in server.items():
        mean = sum(weight * update[name] for weight, update in zip(weights, updates))
        momentum[name] = beta * state.get(name, 0) + mean
        model[name] = matrix + momentum[name]
    return model, momentum
